"""Prompt templates: the bundled ones, ParaRel's, and their grammar."""
