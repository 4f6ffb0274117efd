"""Probes, which measure what a model's hidden states do for its answers. The model stays as it is."""
