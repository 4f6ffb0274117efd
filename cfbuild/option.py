"""Options, each declared once: in the dataclass of the part that reads it.

A field made by `option` carries its help and its flag. The rest follows from it: the command line's parameters
(`cli/shared.py`), the dataclass made of what was typed (`assemble`), and the words that would give its values again
(`arguments`). A field that is not made by `option` is no option of the command line. A field whose type is such a
dataclass is a group: its options count as options of the dataclass that holds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from datetime import date
from typing import Any, get_type_hints

from cfbuild.errors import ConfigError

ABOUT_MODEL = "The model"
ABOUT_RUN = "The run"
"""Panels of the help, for options that most commands have."""

REQUIRED: Any = MISSING
"""The default of an option that has none: on the command line it is a positional argument."""

_KEY = "cfbuild option"


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a value on the command line: `read` returns the value of a text, `write` the text of a value.

    repeated: the option may be given several times; `read` takes a list of texts, `write` returns one.
    listed: the text has parts with commas between them, each of which a shell completes.
    words: a function that returns the words to which a shell may complete a text.
    `read` raises ConfigError for a text that is no value.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = str
    repeated: bool = False
    listed: bool = False
    words: Callable[[], Iterable[str]] = tuple

    def naming(self, *words: str) -> Form:
        """Return this form with `words` for a shell to complete to; a value may still be another word."""
        return replace(self, words=lambda: words)

    def naming_all(self, words: Callable[[], Iterable[str]]) -> Form:
        """Return this form with the words that the function `words` returns when a shell asks for them."""
        return replace(self, words=words)

    def completed(self, typed: str) -> list[str]:
        """Return the texts that `typed` may be completed to, in the order of the words; a list has no word twice."""
        before, comma, last = typed.rpartition(",") if self.listed else ("", "", typed)
        taken = split(before)
        return [before + comma + word for word in self.words() if word.startswith(last) and word not in taken]


@dataclass(frozen=True, slots=True)
class Option:
    """A declared option: the field's `name` and type (`kind`), its `flags` as a tuple, and the rest as in `option`."""

    name: str
    kind: Any
    default: Any
    help: str
    flags: tuple[str, ...]
    panel: str | None
    form: Form | None
    metavar: str | None

    @property
    def is_switch(self) -> bool:
        """Return True if the option is on or off and takes no value."""
        return self.kind is bool

    def words(self, value: Any, always: bool = False) -> list[str]:
        """Return the words of a command line that give `value`: ["--seed", "4"]; none if it is the default.

        always: give the default too, unless it is None or a switch that is off, which no words can give.
        """
        if value == self.default and not (always and value is not None and not self.is_switch):
            return []
        if self.is_switch:
            return [self.flags[0]]
        text: Any = self.form.write(value) if self.form else str(value)
        texts: list[str] = text if self.form and self.form.repeated else [text]
        return texts if self.default is MISSING else [word for part in texts for word in (self.flags[0], part)]


def option(
    default: Any,
    help: str,
    *,
    flag: str | None = None,
    panel: str | None = None,
    form: Form | None = None,
    metavar: str | None = None,
) -> Any:
    """Return a dataclass field that is an option of the command line.

    default: the value, REQUIRED, or a type such as `dict` for a new value of it each time.
    help: the help text; with "[default: ...]" in it, it states the default in words.
    flag: its flags, with a space between them (None: `--` and the field's name).
    panel: the heading of the help under which it is listed (None: the general one).
    form: its text form; numbers, texts, paths and switches need none.
    metavar: the help's name for the value, such as N (None: that of its type).

    Raises ValueError for a switch that is on by default, which no flag could turn off.
    """
    if default is True:
        raise ValueError("a switch is off by default; declare its opposite")
    details = {"help": help, "flag": flag, "panel": panel, "form": form, "metavar": metavar}
    if isinstance(default, type):
        return field(default_factory=default, metadata={_KEY: details})
    return field(default=default, metadata={_KEY: details})


def seed_option() -> Any:
    """Return the field of the option `--seed`."""
    return option(0, "The seed of all random choices.", panel=ABOUT_RUN)


def restart_option() -> Any:
    """Return the field of the option `--restart`."""
    return option(False, "Delete what this verb made in the build, finished or not, and start over.", panel=ABOUT_RUN)


def split(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated text, without spaces around them; empty parts are left out."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


WORD = Form(str)
"""The form of a text that a shell may complete: `WORD.naming(*EDITORS)`."""
COMMA_SEPARATED = Form(split, ",".join, listed=True)
COMMA_SEPARATED_OR_NONE = Form(
    lambda text: () if text == "none" else split(text), lambda values: ",".join(values) or "none", listed=True
)
"""The form of a list that may be empty, written `none`."""


def _day(text: str) -> str:
    """Return a day such as `2026-11-26` in this form; raise ConfigError if `text` is none."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ConfigError(f"{text!r} is no day; expected one such as 2026-11-26") from error


DAY = Form(_day)
"""The form of a day."""


def named_values(texts: Iterable[str]) -> dict[str, Any]:
    """Return the values in NAME=VALUE texts by name, with `_` for `-` in names: "my-layer=5" gives {"my_layer": 5}.

    A value that is JSON (a number, true, null) is read as JSON, any other as text. Raises ConfigError for a text
    without a name or without `=`.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigError(f"--set {text}: expected NAME=VALUE")
        values[name.replace("-", "_")] = _from_json(value)
    return values


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _named_texts(values: Mapping[str, Any]) -> list[str]:
    """Return the texts of which `named_values` makes `values`."""
    plain = {name: value for name, value in values.items() if isinstance(value, str) and _from_json(value) == value}
    return [f"{name}={plain[name] if name in plain else json.dumps(values[name])}" for name in values]


NAMED_VALUES = Form(named_values, _named_texts, repeated=True)
"""The form of settings by name, such as an editor's: `--set NAME=VALUE`, as often as there are settings."""


def options_of(kind: type) -> tuple[Option, ...]:
    """Return the options that the dataclass `kind` declares, with those of its groups, in the order of the fields.

    Positional arguments come first.
    """
    declared: list[Option] = []
    for member, hint, is_group in _members(kind):
        if is_group:
            declared += options_of(hint)
        elif _KEY in member.metadata:
            declared.append(_option(member, hint))
    return tuple(sorted(declared, key=lambda found: found.default is not REQUIRED))


def _members(kind: type) -> Iterator[tuple[Field[Any], Any, bool]]:
    """Yield each field of a dataclass with its type, and True if that is a group."""
    types = get_type_hints(kind)
    for member in fields(kind):
        hint = types[member.name]
        yield member, hint, _KEY not in member.metadata and is_dataclass(hint)


def _option(member: Field[Any], kind: Any) -> Option:
    details = dict(member.metadata[_KEY])
    flags = details.pop("flag") or f"--{member.name.replace('_', '-')}"
    return Option(name=member.name, kind=kind, default=_default(member), flags=tuple(flags.split()), **details)


def _default(member: Field[Any]) -> Any:
    return member.default if member.default_factory is MISSING else member.default_factory()


def assemble(kind: type, values: Mapping[str, Any]) -> Any:
    """Return the dataclass `kind` made of `values` by field name, in which the fields of its groups are mixed.

    Fields without a value have their default. Raises what the dataclass raises for values that it refuses.
    """
    given = {}
    for member, hint, is_group in _members(kind):
        if is_group:
            given[member.name] = assemble(hint, values)
        elif member.name in values:
            given[member.name] = values[member.name]
    return kind(**given)


def values_of(options: Any) -> dict[str, Any]:
    """Return the values of a dataclass of options by field name, those of its groups mixed in."""
    return config_values(type(options), {member.name: getattr(options, member.name) for member in fields(options)})


def config_values(kind: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the dataclass `kind` by field name, as `values_of` does, from a manifest's `config`.

    There a group is a dictionary and a tuple a list. Fields that are not in `config` are left out.
    """
    values: dict[str, Any] = {}
    for member, hint, is_group in _members(kind):
        value = config.get(member.name)
        if is_group and member.name in config:
            values |= config_values(hint, value) if isinstance(value, Mapping) else values_of(value)
        elif member.name in config:
            values[member.name] = tuple(value) if isinstance(value, list) else value
    return values


def arguments(kind: type, values: Mapping[str, Any], always: Collection[str] = ()) -> list[str]:
    """Return the words of a command line that give `values` (by field name) to the options of the dataclass `kind`.

    Defaults are left out, except those of the options named in `always`.
    """
    return [
        word
        for declared in options_of(kind)
        if declared.name in values
        for word in declared.words(values[declared.name], declared.name in always)
    ]


def values_without_option(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `values`, by field name, that differ from the defaults of `kind` and that no option can give."""
    found: dict[str, Any] = {}
    for member, hint, is_group in _members(kind):
        if is_group:
            found |= values_without_option(hint, values)
        elif _KEY not in member.metadata and values.get(member.name, _default(member)) != _default(member):
            found[member.name] = values[member.name]
    return found
