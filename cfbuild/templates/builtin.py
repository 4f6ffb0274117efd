"""The bundled templates, written for cfbuild: a text file for each relation in the folder `builtin`.

Those of other languages are in folders named by the language's code: `builtin/fr/P103.txt`. A file has a template a
line, rewrite templates under `[rewrite]`, generation prompts under `[generation]`; lines that start with `#` are
comments. A relation is added by a file and removed by deleting it.

A rewrite template is a sentence that ends where the object's label comes next, with no article between, and is right
for every subject of the relation, living or dead. If it is right for some kinds of subject only, its section names them
(`facts/subjects.py`): `[rewrite: film, series]`, or `[rewrite: not currency]` for all others. A template with a verb
that agrees with its subject ("{} is", "where {} lies") is never used about a plural name; those of `[rewrite: plural]`
are used about no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

from cfbuild.data import PROPERTY_ID, Template, TemplateKind, id_number, property_id
from cfbuild.errors import TemplateError
from cfbuild.facts.subjects import PLURAL, SUBJECTS

if TYPE_CHECKING:
    from importlib.abc import Traversable

LANGUAGE = "en"
"""The language of the files that are in no folder of a language."""
ORIGIN = "cfbuild"
"""The origin of bundled templates, in `templates.origin`."""
SUFFIX = ".txt"
CODE = re.compile(r"[a-z]{2,3}\Z")
"""A language's code, by which its folder is named: of ISO 639."""
OTHER_SCRIPT = frozenset({"hant", "hk", "mo", "tw"})
"""Variants of Chinese in traditional characters; the bundled templates are in simplified ones."""
SECTIONS: Mapping[str, TemplateKind] = MappingProxyType({"rewrite": "rewrite", "generation": "generation"})
HEADER = re.compile(r"\[(?P<kind>\w+)(?:: (?P<unless>not )?(?P<subjects>[\w ]+(?:, [\w ]+)*))?\]")
"""A section's header: the kind of its templates, and the kinds of subject that they fit or do not fit."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a file: the kind of its templates, and the kinds of subject that they fit or do not fit."""

    kind: TemplateKind
    fits: tuple[str, ...] = ()
    misfits: tuple[str, ...] = ()


def languages() -> tuple[str, ...]:
    """Return the codes of the languages that have bundled templates, English first."""
    return LANGUAGE, *sorted(one.name for one in _folder().iterdir() if one.is_dir() and CODE.match(one.name))


def written_in(code: str) -> str | None:
    """Return the language of the bundled templates for a language's code, `pt` for `pt-br`; None if none fits."""
    code = code.lower()
    base, _, variant = code.partition("-")
    if code in languages():
        return code
    return base if base in languages() and variant not in OTHER_SCRIPT else None


def relations(language: str = LANGUAGE) -> tuple[str, ...]:
    """Return the relations that have bundled templates in a language, by number; none for an unknown language."""
    return tuple(sorted(_texts(language), key=id_number))


@cache
def templates(relation: str, language: str = LANGUAGE) -> tuple[Template, ...]:
    """Return the bundled templates of `relation` in a language, in the file's order; none if it has no file.

    Raises DataError if `relation` is no property id, and TemplateError for a broken line.
    """
    text = _texts(language).get(property_id(relation), "")
    name = f"{relation}{SUFFIX}" if language == LANGUAGE else f"{language}/{relation}{SUFFIX}"
    return tuple(read_templates(relation, text.splitlines(), name))


def read_templates(relation: str, lines: Iterable[str], name: str, origin: str = ORIGIN) -> Iterator[Template]:
    """Yield the templates in the lines of a file.

    name: the file's name, for messages. origin: the templates' origin. Raises TemplateError for a template before any
    section, an unknown section or kind of subject, a text that is no template, or a repeated text.
    """
    section: Section | None = None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = read_section(line, f"{name}:{number}")
            continue
        if section is None:
            raise TemplateError(f"{name}:{number}: {line!r} stands before any section such as [rewrite]")
        if line in seen:
            raise TemplateError(f"{name}:{number}: {line!r} repeats line {seen[line]}")
        seen[line] = number
        try:
            yield Template(relation, section.kind, line, origin, section.fits, section.misfits)
        except TemplateError as error:
            raise TemplateError(f"{name}:{number}: {error}") from error


def read_section(line: str, place: str) -> Section:
    """Return the section that a header such as `[rewrite: film, series]` begins.

    place: file and line, for messages. Raises TemplateError for an unknown section or kind of subject.
    """
    header = HEADER.fullmatch(line)
    if header is None or header["kind"] not in SECTIONS:
        expected = ", ".join(f"[{kind}]" for kind in SECTIONS)
        raise TemplateError(f"{place}: section {line!r}, expected one of {expected}, or [rewrite: KIND, KIND]")
    subjects = tuple(header["subjects"].split(", ")) if header["subjects"] else ()
    unknown = [kind for kind in subjects if kind not in (*SUBJECTS, PLURAL)]
    if unknown:
        raise TemplateError(
            f"{place}: no kind of subject is called {unknown[0]!r}; there are {', '.join((*SUBJECTS, PLURAL))}"
        )
    fits, misfits = ((), subjects) if header["unless"] else (subjects, ())
    return Section(SECTIONS[header["kind"]], fits, misfits)


@cache
def _texts(language: str) -> Mapping[str, str]:
    """Return the files' texts by relation, without files that are not named by a relation."""
    written = written_in(language)
    if written is None:
        return {}
    folder = _folder() if written == LANGUAGE else _folder().joinpath(written)
    files = ((file.name.removesuffix(SUFFIX), file) for file in folder.iterdir() if file.name.endswith(SUFFIX))
    return {name: file.read_text(encoding="utf-8") for name, file in files if PROPERTY_ID.match(name)}


def _folder() -> Traversable:
    return resources.files("cfbuild.templates").joinpath("builtin")
