"""In-context editing: the new fact is stated in front of every prompt, and no weight changes.

It is IKE (Zheng et al. 2023, arXiv 2305.12740) without demonstrations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cfbuild.data import SLOT, Request
from cfbuild.edit.editor import Edit, EditorSpec
from cfbuild.progress import no_progress
from cfbuild.text.scripts import continued


@dataclass(frozen=True, slots=True)
class InContextOptions:
    """The settings of in-context editing: `introduction` is the text in front of the stated fact."""

    introduction: str = "New fact: "


class InContext:
    """The editor: it returns a prefix for each request."""

    def __init__(self, options: InContextOptions) -> None:
        self.options = options

    def edit(self, requests: Sequence[Request], done: Callable[[int], None] = no_progress) -> list[Edit]:
        """Return one edit for each request, in order, with a prefix such as "New fact: Ann works for Acme. "."""
        edits = [
            Edit((place,), None, prefix=f"{self.options.introduction}{_stated(request)} ")
            for place, request in enumerate(requests)
        ]
        done(len(edits))
        return edits


def _stated(request: Request) -> str:
    """Return the requested fact as a sentence."""
    fact = continued(request.prompt.replace(SLOT, request.subject), request.target_new)
    return fact if fact.endswith(".") else f"{fact}."


IKE = EditorSpec(InContextOptions, lambda context: InContext(context.options))
