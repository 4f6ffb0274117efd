"""Language models: loading, batched scoring, seeded sampling, and edits overlaid on a forward pass."""
