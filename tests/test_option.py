"""Options are declared once: the command line reads what `arguments` returns, and a verb has each flag once."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cfbuild.cli import VERBS, command
from cfbuild.cli.shared import with_options
from cfbuild.edit import EDITORS
from cfbuild.errors import ConfigError
from cfbuild.filter.thresholds import FilterChoice, FilterOptions
from cfbuild.lm.selection import ModelOptions
from cfbuild.option import (
    COMMA_SEPARATED,
    NAMED_VALUES,
    REQUIRED,
    Form,
    Option,
    arguments,
    assemble,
    config_values,
    option,
    options_of,
    values_of,
    values_without_option,
)
from cfbuild.pipeline.audit import AuditOptions
from cfbuild.pipeline.demo import DemoOptions
from cfbuild.pipeline.export import ExportOptions
from cfbuild.pipeline.fetch import FetchOptions
from cfbuild.pipeline.generate import GenerateOptions
from cfbuild.pipeline.score_base import BaseOptions
from cfbuild.pipeline.validate_and_score import EvaluateOptions
from cfbuild.publish.bundles import BUNDLES
from cfbuild.publish.formats import EXPORTERS
from cfbuild.publish.hub import Destination
from cfbuild.publish.split import SplitOptions
from cfbuild.records.draft import BuildOptions
from cfbuild.records.groups import GROUPS
from cfbuild.store.folder import BuildFolder
from cfbuild.views.terminal import Choice

DECLARED = {
    "fetch": (FetchOptions,),
    "generate": (FilterChoice, GenerateOptions, ModelOptions),
    "demo": (DemoOptions, ModelOptions),
    "publish": (Destination, SplitOptions),
    "show": (Choice,),
    "export": (ExportOptions,),
    "score-base": (BaseOptions,),
    "audit": (AuditOptions,),
    "validate-and-score": (EvaluateOptions, ModelOptions),
}
WORD = st.text("abcXYZ019 .:/-_'\"$é", min_size=1, max_size=8).filter(
    lambda text: text == text.strip() and text != "none"
)
BY_KIND: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(1, 99),
    float: st.floats(0, 1),
    str: WORD,
    Path: WORD.map(Path),
    tuple[str, ...]: st.lists(WORD, min_size=1, max_size=3).map(tuple),
    Mapping[str, Any]: st.dictionaries(
        st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.integers() | st.booleans() | WORD, max_size=2
    ),
    BuildFolder: WORD.map(lambda text: BuildFolder(Path(text))),
}
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "language": st.sampled_from(["en", "fr"]),
    "languages": st.sampled_from([(), ("fr", "de")]),
    "updates": st.just(Path(__file__)),
    "groups": st.lists(st.sampled_from(sorted(GROUPS)), unique=True).map(tuple),
    "repository": st.just("a/b"),
    "format_": st.sampled_from(sorted({*EXPORTERS, *BUNDLES})),
    "editor": st.sampled_from(sorted(EDITORS)),
    "layer": st.integers(0, 99) | st.just("auto"),
}


def drawn(declared: Option) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of an option, None among them where it may be."""
    may_be_none = isinstance(declared.kind, types.UnionType) and type(None) in typing.get_args(declared.kind)
    values = SPECIAL.get(declared.name)
    if values is None:
        (values,) = (found for kind, found in BY_KIND.items() if declared.kind in (kind, kind | None))
    return st.none() | values if may_be_none else values


def read(kinds: tuple[type, ...], words: list[str]) -> list[Any]:
    """Return the values of options that a command of these kinds is called with."""
    found: list[Any] = []
    by_name = {f"group_{number}": kind for number, kind in enumerate(kinds)}

    def command(**groups: Any) -> None:
        found.extend(groups[name] for name in by_name)

    keyword = inspect.Parameter.KEYWORD_ONLY
    signature = inspect.Signature([inspect.Parameter(one, keyword, annotation=kind) for one, kind in by_name.items()])
    command.__annotations__, command.__signature__ = by_name, signature  # type: ignore[attr-defined]
    small = typer.Typer()
    small.command()(with_options(command))
    shown = CliRunner().invoke(small, words, catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    return found


def same(first: Any, second: Any) -> bool:
    """Return True if two values of options are equal; a build folder by its path."""
    plain = [
        {name: value.root if isinstance(value, BuildFolder) else value for name, value in values_of(text).items()}
        for text in (first, second)
    ]
    return type(first) is type(second) and plain[0] == plain[1]


def words_of(*options: Any) -> list[str]:
    """Return the words of a command line that give the values of `options`, defaults left out."""
    return [word for group in options for word in arguments(type(group), values_of(group))]


@pytest.mark.parametrize("verb", sorted(DECLARED))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data())
def test_the_command_line_reads_what_is_written_for_it(verb: str, data: st.DataObject) -> None:
    values = []
    for kind in DECLARED[verb]:
        given = {one.name: data.draw(drawn(one), label=one.name) for one in options_of(kind)}
        try:
            values.append(assemble(kind, given))
        except ConfigError:
            assume(False)
    words = words_of(*values)
    # A file's name may begin with a dash; an argument with one comes after --, as for any command.
    positional = [words.pop(0)] if verb in ("audit", "publish") else []
    found = read(DECLARED[verb], [*words, "--", *positional])
    assert all(same(one, other) for one, other in zip(found, values, strict=True))


@pytest.mark.parametrize("verb", sorted(DECLARED))
def test_nothing_is_written_for_defaults(verb: str) -> None:
    required = {"file": Path("x"), "repository": "a/b"}
    values = [
        assemble(kind, {one.name: required[one.name] for one in options_of(kind) if one.default is REQUIRED})
        for kind in DECLARED[verb]
    ]
    assert words_of(*values) == {"audit": ["x"], "publish": ["a/b"]}.get(verb, [])


@pytest.mark.parametrize("verb", sorted(DECLARED))
def test_every_declared_option_is_one_of_the_verbs_and_none_twice(verb: str) -> None:
    flags = [
        flag
        for kind in DECLARED[verb]
        for part in options_of(kind)
        if part.default is not REQUIRED
        for flag in part.flags
    ]
    assert len(flags) == len(set(flags))
    known = [flag for part in command(verb).params for flag in part.opts]
    assert set(flags) <= set(known) and len(known) == len(set(known)), "typer has each flag once"
    assert verb in VERBS


def test_words_of_options_that_differ() -> None:
    options = GenerateOptions(BuildOptions(seed=4), relations=("P36", "P19"), limit=3, allow_several=True, groups=())
    rest = "--relations P36,P19 --limit 3 --allow-several --seed 4 --groups none"
    for choice, first in (
        (FilterChoice(True), "--no-filter"),
        (FilterChoice(False, FilterOptions(0.25)), "--min-rank 0.25"),
    ):
        words = words_of(choice, options, ModelOptions())
        assert " ".join(words) == f"{first} {rest}"


def test_options_that_no_record_can_fulfil_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="min_neighbors is 10 and neighborhood is 5"):
        GenerateOptions(BuildOptions(neighborhood=5))
    assert GenerateOptions(BuildOptions(neighborhood=5), min_neighbors=5).min_neighbors == 5
    with pytest.raises(ConfigError, match="min_sitelinks is 9 and max_sitelinks is 8"):
        GenerateOptions(min_sitelinks=9, max_sitelinks=8)
    assert GenerateOptions(min_sitelinks=9, max_sitelinks=9)
    with pytest.raises(ConfigError, match="no_filter is given together with max_true_rank"):
        FilterChoice(True, FilterOptions(max_true_rank=3))


def test_a_seed_can_be_asked_for_though_it_is_the_default() -> None:
    values = values_of(GenerateOptions())
    assert arguments(GenerateOptions, values, always=("seed",)) == ["--seed", "0"]
    assert arguments(GenerateOptions, values, always=("limit", "restart")) == [], "None and a switch cannot be given"


def test_a_group_is_flat_on_the_command_line_and_nested_in_the_manifest() -> None:
    values = config_values(
        GenerateOptions, {"build": {"seed": 3, "paraphrases": 5}, "groups": ["inverse"], "cfbuild": "1"}
    )
    assert values == {"seed": 3, "paraphrases": 5, "groups": ("inverse",)}
    assert assemble(GenerateOptions, values) == GenerateOptions(BuildOptions(3, 5), groups=("inverse",))
    assert values_without_option(GenerateOptions, values) == {"paraphrases": 5}


def test_options_of_a_dataclass_with_a_short_flag_a_form_and_a_metavar() -> None:
    @dataclass(frozen=True)
    class Inner:
        names: tuple[str, ...] = option(("a",), "Names.", form=COMMA_SEPARATED)
        hidden: int = 7

    @dataclass(frozen=True)
    class Outer:
        size: int = option(REQUIRED, "How many.", form=Form(lambda text: len(text)), metavar="SIZE")
        inner: Inner = field(default_factory=Inner)
        loud: bool = option(False, "Aloud.", flag="--loud -l", panel="Noise")

    globals()["Inner"], globals()["Outer"] = Inner, Outer  # where hints are looked up
    size, names, loud = options_of(Outer)
    assert (size.name, size.default, size.metavar) == ("size", REQUIRED, "SIZE")
    assert (names.flags, loud.flags, loud.panel, loud.is_switch) == (("--names",), ("--loud", "-l"), "Noise", True)
    (found,) = read((Outer,), ["four", "-l", "--names", "b, c,"])
    assert found == Outer(4, Inner(("b", "c")), True) and words_of(replace(found, size=5)) == [
        *("5", "--names", "b,c", "--loud")
    ]


@given(
    values=st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
        WORD
        | st.sampled_from(["1", "null", '"x"', "a=b"])
        | st.integers()
        | st.floats(0, 1)
        | st.booleans()
        | st.none(),
    )
)
def test_settings_by_name_come_back_as_they_were(values: dict[str, Any]) -> None:
    @dataclass(frozen=True)
    class Named:
        settings: Mapping[str, Any] = option(dict, "Settings.", flag="--set", form=NAMED_VALUES)

    globals()["Named"] = Named
    (found,) = read((Named,), words_of(Named(values)))
    assert dict(found.settings) == values and list(map(type, found.settings.values())) == list(
        map(type, values.values())
    )


def test_a_switch_that_is_on_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="off by default"):
        option(True, "On.")
