"""Options, each declared once: in the dataclass of the part that reads it.

A field made by `option` carries its help and its flag. Everything else is derived from it: the command line's
parameters (`cli/shared.py`), the options value of what was typed (`assemble`), and the words that give a value again
(`command_line`). A field without help is no option of the command line; a field that is itself such a dataclass is a
group, whose options count as the outer member's.
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
    """The text form of a value on the command line: `read` makes the value from its text, `write` the reverse.

    An option that is `repeated` may be given several times: `read` takes a list of texts, `write` returns a list.
    `read` raises ConfigError for a text that is no value. `words` returns the words that a shell may complete a text
    to; of a `listed` form, each part between commas.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], Any] = str
    repeated: bool = False
    listed: bool = False
    words: Callable[[], Iterable[str]] = tuple

    def naming(self, *words: str) -> Form:
        """Return this form with words for a shell; a value may be another word all the same."""
        return replace(self, words=lambda: words)

    def naming_all(self, words: Callable[[], Iterable[str]]) -> Form:
        """Return this form with the words for a shell that `words` returns, called only when a shell asks."""
        return replace(self, words=words)

    def completed(self, typed: str) -> list[str]:
        """Return the texts that `typed` may be completed to, in the order of the words; none comes twice in a list."""
        before, comma, last = typed.rpartition(",") if self.listed else ("", "", typed)
        taken = split(before)
        return [before + comma + word for word in self.words() if word.startswith(last) and word not in taken]


@dataclass(frozen=True, slots=True)
class Option:
    """A declared option: `name` is the field's, `kind` its type, `flags` are `--long` and maybe `-s`."""

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
        """True if the option is on or off and takes no value."""
        return self.kind is bool

    @property
    def tells_default(self) -> bool:
        """True if the help names the default in words, so that no default is shown beside it."""
        return "[default:" in self.help

    def words(self, value: Any, always: bool = False) -> list[str]:
        """Return the command line's words that give `value`.

        The default needs none, unless `always` is set; a default of None and a switch that is off have none even then.
        """
        if value == self.default and not (always and value is not None and not self.is_switch):
            return []
        if self.is_switch:
            return [self.flags[0]]
        text: Any = self.form.write(value) if self.form else str(value)
        texts: list[str] = text if self.form and self.form.repeated else [text]
        return texts if self.default is MISSING else [word for each in texts for word in (self.flags[0], each)]


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

    `flag` is its flags with spaces between (None: `--` and the field's name). `form` is needed for values that are no
    number, text, path or switch. A default that can be changed in place is given as its type, such as `dict`. A help
    with "[default: ...]" states the default in words.

    Raises ValueError for a switch that is on by default: no flag could turn it off.
    """
    if default is True:
        raise ValueError("a switch is off by default; declare its opposite")
    details = {"help": help, "flag": flag, "panel": panel, "form": form, "metavar": metavar}
    if isinstance(default, type):
        return field(default_factory=default, metadata={_KEY: details})
    return field(default=default, metadata={_KEY: details})


def seed_option() -> Any:
    """Return the field of the option `--seed`."""
    return option(0, "Seed of every random choice.", panel=ABOUT_RUN)


def restart_option() -> Any:
    """Return the field of the option `--restart`."""
    return option(False, "Throw away what this verb did in this build, start over.", panel=ABOUT_RUN)


def split(text: str) -> tuple[str, ...]:
    """Return the parts of comma-separated text, without the spaces around them and without empty ones."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


WORD = Form(str)
"""The form of a text as it is, to be given words: `WORD.naming(*EDITORS)`."""
COMMA_SEPARATED = Form(split, ",".join, listed=True)
COMMA_SEPARATED_OR_NONE = Form(
    lambda text: () if text == "none" else split(text), lambda values: ",".join(values) or "none", listed=True
)
"""The form of a list that may be empty, written `none`."""


def _day(text: str) -> str:
    """Return `text` if it is a day such as `2026-11-26`; raise ConfigError otherwise."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ConfigError(f"{text!r} is no day; expected one such as 2026-11-26") from error


DAY = Form(_day)
"""The form of a day."""


def named_values(texts: Iterable[str]) -> dict[str, Any]:
    """Return NAME=VALUE texts as a dictionary by name, with `_` for `-` in names.

    A value that is JSON (a number, true, null) is read as JSON; any other value is text. Raises ConfigError for a text
    without a name.
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
    """Return the texts from which `named_values` makes `values`."""
    plain = {name: value for name, value in values.items() if isinstance(value, str) and _from_json(value) == value}
    return [f"{name}={plain[name] if name in plain else json.dumps(values[name])}" for name in values]


NAMED_VALUES = Form(named_values, _named_texts, repeated=True)
"""The form of settings by name, such as an editor's: `--set NAME=VALUE`, as often as there are settings."""


def options_of(kind: type) -> tuple[Option, ...]:
    """Return the options that a dataclass declares, those of its groups included, in the fields' order.

    Arguments come first, also where the type that declares the others is inherited from.
    """
    return tuple(sorted(_declared(kind), key=lambda declared: declared.default is not REQUIRED))


def _declared(kind: type) -> Iterator[Option]:
    types = get_type_hints(kind)
    for member in fields(kind):
        if _KEY in member.metadata:
            yield _option(member, types[member.name])
        elif is_dataclass(group := types[member.name]):
            yield from _declared(group)  # type: ignore[arg-type]


def _option(member: Field[Any], kind: Any) -> Option:
    details = dict(member.metadata[_KEY])
    flags = details.pop("flag") or f"--{member.name.replace('_', '-')}"
    return Option(name=member.name, kind=kind, default=_default(member), flags=tuple(flags.split()), **details)


def _default(member: Field[Any]) -> Any:
    return member.default if member.default_factory is MISSING else member.default_factory()


def assemble(kind: type, values: Mapping[str, Any]) -> Any:
    """Return an instance of the dataclass `kind` with `values` by field name, the fields of its groups included.

    Fields without a value keep their default. Raises what the dataclass raises for values that it refuses.
    """
    types = get_type_hints(kind)
    given = {}
    for member in fields(kind):
        if _KEY not in member.metadata and is_dataclass(types[member.name]):
            given[member.name] = assemble(types[member.name], values)
        elif member.name in values:
            given[member.name] = values[member.name]
    return kind(**given)


def values_of(options: Any) -> dict[str, Any]:
    """Return the values of an options dataclass by field name, those of its groups beside its own."""
    return recorded(type(options), {member.name: getattr(options, member.name) for member in fields(options)})


def recorded(kind: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the dataclass `kind` by field name, read from `config` as a manifest has it.

    In `config` a group is a dictionary (or a value of its type), and a tuple a list. Fields that it lacks are left out.
    """
    types = get_type_hints(kind)
    values: dict[str, Any] = {}
    for member in fields(kind):
        if member.name not in config:
            continue
        value = config[member.name]
        if _KEY not in member.metadata and is_dataclass(group := types[member.name]):
            inner = (
                value
                if isinstance(value, Mapping)
                else {each.name: getattr(value, each.name) for each in fields(value)}
            )
            values |= recorded(group, inner)  # type: ignore[arg-type]
        else:
            values[member.name] = tuple(value) if isinstance(value, list) else value
    return values


def arguments(kind: type, values: Mapping[str, Any], always: Collection[str] = ()) -> list[str]:
    """Return the words that give `values` (by field name) to the options of `kind`.

    Defaults are left out, except those of the options that `always` names.
    """
    return [
        word
        for each in options_of(kind)
        if each.name in values
        for word in each.words(values[each.name], each.name in always)
    ]


def command_line(verb: str, *options: Any) -> list[str]:
    """Return the verb and the words that give it the values of `options`, defaults left out."""
    return [verb, *(word for group in options for word in arguments(type(group), values_of(group)))]


def unsaid(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `values` that differ from the defaults of `kind` and that no option can give."""
    types = get_type_hints(kind)
    found: dict[str, Any] = {}
    for member in fields(kind):
        if _KEY in member.metadata:
            continue
        if is_dataclass(group := types[member.name]):
            found |= unsaid(group, values)  # type: ignore[arg-type]
        elif member.name in values and values[member.name] != _default(member):
            found[member.name] = values[member.name]
    return found
