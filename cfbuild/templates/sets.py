"""The template sets that a fetch can use: the bundled one, ParaRel's, and folders of your own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cfbuild.option import COMMA_SEPARATED, option
from cfbuild.templates import own

BUILTIN, PARAREL = "builtin", "pararel"
TEMPLATE_SETS = (BUILTIN, PARAREL)
"""The named sets; any other name is a folder's path."""


@dataclass(frozen=True)
class TemplateOptions:
    """Options of prompt templates: names of sets, or folders with files of your own; the first takes precedence."""

    templates: tuple[str, ...] = option(
        (BUILTIN,),
        "Comma-separated sets of templates: builtin, pararel, or folders of your own.",
        form=COMMA_SEPARATED.naming(*TEMPLATE_SETS),
    )


def is_own(name: str) -> bool:
    """Return whether `name` is a folder, not a named set."""
    return name not in TEMPLATE_SETS


def recorded_name(name: str) -> str:
    """Return a template set's name for the manifest: a folder's with its digest instead of its path."""
    return f"{Path(name).resolve().name}@{own.digest(Path(name))[:16]}" if is_own(name) else name


def recalled_name(recorded: str) -> tuple[str, str]:
    """Return the name and the start of the digest in a `recorded` name; the digest of a named set is empty."""
    name, at, digest = recorded.rpartition("@")
    return (name, digest) if at else (recorded, "")
