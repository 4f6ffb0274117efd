"""Formats of other projects that are recognised by their keys but not read, each with advice how to convert it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from cfbuild.audit.row import EASYEDIT, RecordParts, parts_of
from cfbuild.errors import DataError
from cfbuild.store.schema import writing_faults
from cfbuild.store.schema.faults import Fault, Located, show

FORMATS = "CounterFact's keys, or EasyEdit's prompt, subject and target_new"
"""The fields that a row of an audited file must have."""
RENAME = "an audit reads EasyEdit's keys: "


@dataclass(frozen=True, slots=True)
class ForeignFormat:
    """A format: whose it is, sets of keys of which a row has at least one completely, and how to convert a file."""

    owner: str
    signs: tuple[str, ...]
    advice: str

    @property
    def what(self) -> str:
        """Return the format's name for messages."""
        return f"this is {self.owner} format"


FOREIGN = (
    ForeignFormat(
        "zsRE's",
        ("src alt", "src answers", "src pred", "input filtered_rephrases", "input alternatives"),
        f"{RENAME}src as prompt, alt as target_new, answers as ground_truth, rephrase as rephrase_prompt, loc as "
        "locality_prompt, loc_ans as locality_ground_truth",
    ),
    ForeignFormat(
        "MQuAKE's",
        ("new_answer questions", "questions single_hops", "new_single_hops"),
        "an audit reads one edit a row: take each entry of requested_rewrite as the requested_rewrite of a row",
    ),
    ForeignFormat(
        "RippleEdits'",
        ("edit example_type", "edit Relation_Specifity", "edit Logical_Generalization", "edit Compositionality_I"),
        f"{RENAME}edit.prompt as prompt, with its subject and target_new; the test queries as portability and locality",
    ),
    ForeignFormat(
        "KnowEdit's WikiBio",
        ("concept labels text",),
        f"{RENAME}text as prompt, concept as subject, labels as target_new",
    ),
    ForeignFormat(
        "ParaRel's",
        ("obj_label sub_label", "obj_uri sub_uri"),
        "give its folder to `cfbuild fetch --source pararel`",
    ),
)
"""The table of formats; a row's is the first whose keys it has."""


def foreign_format(row: Any) -> ForeignFormat | None:
    """Return the format of a row that is recognised but not read, or None."""
    if not isinstance(row, dict) or isinstance(row.get("requested_rewrite"), dict) or row.keys() >= EASYEDIT:
        return None
    return next((one for one in FOREIGN if any(row.keys() >= set(keys.split()) for keys in one.signs)), None)


def refuse_format(path: Path, found: ForeignFormat) -> NoReturn:
    """Raise DataError for a file in the format `found`."""
    raise DataError(f"{path}: {found.what}, which is not read; {found.advice}")


def refuse_unscored(path: Path, row: Any) -> None:
    """Raise DataError if a file's first row is in a format that cannot be scored: a foreign one, or EasyEdit's."""
    foreign = foreign_format(row)
    if foreign is not None:
        refuse_format(path, foreign)
    parts = parts_of(row)
    if parts is not None and not parts.is_counterfact:
        expected = "only CounterFact's rows are validated and scored; `cfbuild audit` reads EasyEdit's too"
        raise DataError(f"{path}: this is EasyEdit's format; {expected}")


def misread(located: Located, parts: RecordParts | None) -> Iterator[Fault]:
    """Yield the faults of a row, with its parts, that cannot be read whole: no JSON, not writable, no known format."""
    if located.fault is not None:
        yield located.fault
        return
    row = located.row if isinstance(located.row, dict) else {"": located.row}
    unwritable = [] if located.is_plain else list(writing_faults(row))
    yield from unwritable
    if unwritable:
        return
    foreign = foreign_format(located.row)
    if foreign is not None:
        yield Fault("", "row-format", foreign.what, foreign.advice)
    elif parts is None or ("requested_rewrite" not in located.row and not located.row.keys() >= EASYEDIT):
        yield Fault("", "row-format", show(located.row), FORMATS)
    else:
        yield from parts.unread
