"""What is kept: rules that need no model, and the rank of the false object under a model."""
