"""Editors: each returns its edits as values and leaves the model as it was."""
