"""Editors: each returns its edits as values and leaves the model as it was.

An editor is a file here and a line in this table: name -> "module:attribute", where the attribute is an `EditorSpec`
(`editor.py`). It is imported when it is asked for. `--editor` takes "module:attribute" too.
"""

EDITORS = {
    "rome": "cfbuild.edit.rome:ROME",
    "rome-fast": "cfbuild.edit.rome:ROME_FAST",
    "ft": "cfbuild.edit.finetune:FT",
    "ft-l": "cfbuild.edit.finetune:FT_L",
    "ike": "cfbuild.edit.ike:IKE",
    "emmet": "cfbuild.edit.emmet:EMMET",
}
