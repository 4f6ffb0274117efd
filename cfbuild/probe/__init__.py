"""Probes: what a model's inside has to do with what it says. They read a model and leave it as it is."""
