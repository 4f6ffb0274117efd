"""The bundled templates, written for cfbuild: a text file for each relation in the folder `builtin`.

`P103.txt` holds a template a line, rewrite templates under `[rewrite]`, generation prompts under `[generation]`; lines
that start with `#` are comments. A relation is added by a file and removed by deleting it. A rewrite template must be
an English sentence that breaks off where the object's label comes next, with no article between, right for every kind
of subject that the relation has, living or dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

from cfbuild.data import PROPERTY_ID, Template, TemplateKind, id_number, property_id
from cfbuild.errors import TemplateError

LANGUAGE = "en"
ORIGIN = "cfbuild"
SUFFIX = ".txt"
SECTIONS: Mapping[str, TemplateKind] = MappingProxyType({"[rewrite]": "rewrite", "[generation]": "generation"})


def relations() -> tuple[str, ...]:
    """Return the relations that have bundled templates, ordered by number."""
    return tuple(sorted(_texts(), key=id_number))


@cache
def templates(relation: str) -> tuple[Template, ...]:
    """Return the bundled templates of `relation` in the file's order; none if it has no file.

    Raises DataError if `relation` is not a property id and TemplateError, naming file and line, for a broken line.
    """
    text = _texts().get(property_id(relation), "")
    return tuple(read_templates(relation, text.splitlines(), f"{relation}{SUFFIX}"))


def read_templates(relation: str, lines: Iterable[str], name: str, origin: str = ORIGIN) -> Iterator[Template]:
    """Yield the templates in the lines of a file.

    name: the file's name, for messages. origin: the templates' origin.
    Raises TemplateError with `name` and line for a template before any section, an unknown section, a text that is no
    template, or a text that comes again.
    """
    kind: TemplateKind | None = None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if line not in SECTIONS:
                raise TemplateError(f"{name}:{number}: section {line!r}, expected one of {', '.join(SECTIONS)}")
            kind = SECTIONS[line]
            continue
        if kind is None:
            raise TemplateError(f"{name}:{number}: {line!r} stands before any section such as [rewrite]")
        if line in seen:
            raise TemplateError(f"{name}:{number}: {line!r} repeats line {seen[line]}")
        seen[line] = number
        try:
            yield Template(relation, kind, line, origin)
        except TemplateError as error:
            raise TemplateError(f"{name}:{number}: {error}") from error


@cache
def _texts() -> Mapping[str, str]:
    """Return the files' texts by relation; files that are not named after a relation are left out."""
    folder = resources.files("cfbuild.templates").joinpath("builtin")
    files = ((file.name.removesuffix(SUFFIX), file) for file in folder.iterdir() if file.name.endswith(SUFFIX))
    return {name: file.read_text(encoding="utf-8") for name, file in files if PROPERTY_ID.match(name)}
