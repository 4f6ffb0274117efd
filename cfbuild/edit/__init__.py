"""Editors: each returns its edits as values and leaves the model as it was.

An editor is a file here and a line in this table: name -> "module:function". The function gets a `Setting` and returns
an `Editor` (both in `editor.py`), and is imported when it is asked for. `--editor` takes "module:function" too.
"""

EDITORS = {
    "rome": "cfbuild.edit.rome.optimise:load",
    "rome-fast": "cfbuild.edit.rome.optimise:load_fast",
    "ft": "cfbuild.edit.finetune:load",
    "ft-l": "cfbuild.edit.finetune:load",
}
