"""The template sets of a fetch, and templates of your own: a folder of files like the bundled ones, `P6.txt` for P6."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cfbuild.data import PROPERTY_ID, Template, id_number
from cfbuild.errors import TemplateError
from cfbuild.option import COMMA_SEPARATED, option
from cfbuild.store.files import sha256_file, sha256_text
from cfbuild.templates.builtin import SUFFIX, read_templates

BUILTIN, PARAREL = "builtin", "pararel"
TEMPLATE_SETS = (BUILTIN, PARAREL)
"""The named sets; any other name is a folder's path."""
ORIGIN = "own"
"""The origin of templates of your own, in `templates.origin`."""


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


def relations(folder: Path) -> tuple[str, ...]:
    """Return the relations that have a file, by number. Raises TemplateError if the folder has none."""
    names = [path.stem for path in folder.glob(f"*{SUFFIX}") if PROPERTY_ID.match(path.stem)]
    if not names:
        raise TemplateError(f"{folder}: holds no file of templates; expected one such as P6{SUFFIX}")
    return tuple(sorted(names, key=id_number))


def templates(folder: Path, relation: str) -> tuple[Template, ...]:
    """Return the templates of `relation` in its file's order, or none. Raises TemplateError for a broken file."""
    path = folder / f"{relation}{SUFFIX}"
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    return tuple(read_templates(relation, lines, str(path), ORIGIN))


def digest(folder: Path) -> str:
    """Return the sha256 of the files' names and digests, which changes with any template."""
    return sha256_text("\n".join(f"{name} {sha256_file(folder / (name + SUFFIX))}" for name in relations(folder)))


def recorded_name(name: str) -> str:
    """Return a template set's name for the manifest: a folder's with its digest instead of its path."""
    return f"{Path(name).resolve().name}@{digest(Path(name))[:16]}" if is_own(name) else name


def recalled_name(recorded: str) -> tuple[str, str]:
    """Return the name and the start of the digest in a `recorded` name; the digest of a named set is empty."""
    name, at, digest = recorded.rpartition("@")
    return (name, digest) if at else (recorded, "")
