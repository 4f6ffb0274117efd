"""Templates of your own: a folder of files like the bundled ones, `P6.txt` for the relation P6."""

from __future__ import annotations

from pathlib import Path

from cfbuild.data import PROPERTY_ID, Template, id_number
from cfbuild.errors import TemplateError
from cfbuild.store.files import sha256_file, sha256_text
from cfbuild.templates.builtin import SUFFIX, read_templates

ORIGIN = "own"
"""The origin of these templates, in `templates.origin`."""


def relations(folder: Path) -> tuple[str, ...]:
    """Return the relations that have a file, by number. Raises TemplateError if the folder has none."""
    names = [path.stem for path in folder.glob(f"*{SUFFIX}") if PROPERTY_ID.match(path.stem)]
    if not names:
        raise TemplateError(f"{folder}: holds no file of templates; expected one such as P6{SUFFIX}")
    return tuple(sorted(names, key=id_number))


def templates(folder: Path, relation: str) -> tuple[Template, ...]:
    """Return the templates of `relation` in its file's order; none if it has no file.

    Raises TemplateError for a broken line or a file that is not UTF-8.
    """
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
