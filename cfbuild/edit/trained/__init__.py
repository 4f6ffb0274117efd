"""Editors that learn to edit: a network maps what a request's own gradient consists of to a change of weights.

`material` is what the networks see, `mend` and `ke` are the networks, `lessons` what they learn from, `training` the
loop, `artefact` the trained network in files, `editor` the editors of the table.
"""
