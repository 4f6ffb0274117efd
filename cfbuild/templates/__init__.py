"""Prompt templates: the bundled ones, ParaRel's, and those of users; sentences to put before prompts."""
