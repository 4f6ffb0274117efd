"""The signature of a run: everything that its figures depend on, short enough for a line of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cfbuild.store.files import sha256_text

if TYPE_CHECKING:
    from cfbuild.edit.editor import OpenEditor
    from cfbuild.score.passes import Passes


def short_settings(editor: OpenEditor) -> dict[str, Any]:
    """Return an editor's signature with the number and digest of its contexts in place of their texts."""
    settings = dict(editor.signature)
    if contexts := settings.get("contexts"):
        settings["contexts"] = f"{len(contexts)}@{sha256_text(chr(0).join(contexts))[:12]}"
    return settings


def run_signature(passes: Passes, digest: str) -> dict[str, Any]:
    """Return everything that the run's figures depend on. `digest` is the sha256 of the file of records."""
    from cfbuild.score.fixed_text import fixed_text
    from cfbuild.score.in_use import MOST_TOKENS
    from cfbuild.score.sequence import SequentialPasses, batch_size

    signature = {**passes.lm.identity, **passes.lm.arithmetic, **short_settings(passes.editor)}
    is_sequence = isinstance(passes, SequentialPasses)
    if passes.editor.together or is_sequence:
        signature["batch"] = batch_size(passes.batch, passes.editor.together)
    if is_sequence:
        signature["sequence"] = len(passes.units())
    signature["records"] = f"{len(passes.records)}@{digest[:12]}"
    first = "" if passes.texts_of is None else f", first {passes.texts_of} records"
    signature["generation"] = "none" if passes.texts is None else f"top-k 5, 100 tokens, seed {passes.seed}{first}"
    if passes.names is not None:
        signature["in_use"] = f"greedy, {MOST_TOKENS} tokens at most"
    if passes.perplexity:
        signature["perplexity"] = f"fixed text {sha256_text(fixed_text())[:12]}"
    return signature
