"""Editors that learn to edit: a network maps the gradient of a request's loss to a change of weights.

`material` is the networks' input, `mend` and `ke` are the networks, `lessons` what they learn from, `training` the
loop, `artefact` the trained network in files, `network_editor` the editors.
"""
