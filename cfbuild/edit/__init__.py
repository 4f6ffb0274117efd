"""Editors: each returns its edits as values and leaves the model as it was."""

from cfbuild.callable_room import make_callable
from cfbuild.errors import ConfigError

EDITORS = {
    "rome": "cfbuild.edit.rome:ROME",
    "rome-fast": "cfbuild.edit.rome:ROME_FAST",
    "ft": "cfbuild.edit.finetune:FT",
    "ft-l": "cfbuild.edit.finetune:FT_L",
    "ft-m": "cfbuild.edit.finetune:FT_M",
    "ike": "cfbuild.edit.ike:IKE",
    "emmet": "cfbuild.edit.emmet:EMMET",
    "memit": "cfbuild.edit.memit:MEMIT",
    "kn": "cfbuild.edit.kn:KN",
    "alphaedit": "cfbuild.edit.alphaedit:ALPHAEDIT",
    "ultraedit": "cfbuild.edit.ultraedit:ULTRAEDIT",
    "mend": "cfbuild.edit.trained.network_editor:MEND",
    "mend-cf": "cfbuild.edit.trained.network_editor:MEND",
    "ke": "cfbuild.edit.trained.network_editor:KE",
    "ke-cf": "cfbuild.edit.trained.network_editor:KE",
}
"""The editors by name, each as "module:attribute" of its `EditorSpec` (`editor.py`), imported when it is first used."""

COVARIANCE_TOKENS = 100_000
"""The fewest tokens over which C is computed by default: 15 s on 2 cores for a model of 135 M weights."""
TOKENS_PER_WIDTH = 10
"""Tokens for each number of a key, where that is more: the multiple that FastMEMIT's code recommends."""
TOKENS = {
    "subject_first": "first subject token",
    "subject_last": "last subject token",
    "subject_first_after_last": "first token after the subject",
    "last": "last token",
}
"""The tokens of a prompt at which ROME can edit (paper, Figure 5), by their names in the released code."""
TRAINED = "editors"
"""The folder of a build that holds trained networks, each in a folder of its editor's name."""


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` is in EDITORS or has the form "module:attribute" (an editor of your own)."""
    if name not in EDITORS and ":" not in name:
        raise ConfigError(
            f"editor {name!r} does not exist; expected one of {', '.join(EDITORS)}, or module:attribute of your own"
        )


make_callable(__name__)
