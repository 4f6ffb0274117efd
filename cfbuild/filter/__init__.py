"""The rules that decide what is kept: those that need no model, and the rank of the false object under a model."""
