"""`cfbuild audit`: what is wrong with a CounterFact-format file, by rule, and a cleaned file if asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cfbuild.audit.mentions import Templates
from cfbuild.audit.row import Sheet, sheet_of
from cfbuild.audit.rulebook import AuditContext, faults, resolve
from cfbuild.errors import ConfigError, DataError
from cfbuild.facts.graph import FactGraph
from cfbuild.filter.rules import RuleContext
from cfbuild.option import REQUIRED, Form, option
from cfbuild.progress import Progress, silent
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.schema import conforming
from cfbuild.store.schema.faults import Fault, Located, show
from cfbuild.store.schema.located import read_located

EXAMPLES = 3
"""Examples of each rule that a summary shows."""

CLEANED = frozenset({"prefix-fragment", "prefix-mention"})
"""Faults that go away with the prefix: the paraphrase's clean form is kept."""
LISTED = ("paraphrases", "neighborhood", "attribute")
"""Lists of `meta` that run along with a list of prompts."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What to audit a file for. `build` is a folder with facts to hold it against; `fix` where to write a clean file.

    Raises ConfigError for a limit below 1, or a cleaned file that would replace the file that is audited.
    """

    file: Path = option(REQUIRED, "A file of CounterFact's format, cfbuild's, or EasyEdit's.")
    build: BuildFolder | None = option(
        None,
        "A build folder whose facts to hold the file against.",
        flag="--build -b",
        form=Form(lambda text: BuildFolder(Path(text)), lambda folder: str(folder.root)),
        metavar="<path>",
    )
    fix: Path | None = option(None, "Write a cleaned file here, and what was changed beside it (.changes.jsonl).")
    max_per_entity: int = option(1, "How often one entity may be asked about among a record's prompts of a kind.")
    allow_symmetric: bool = option(False, "Relations that hold both ways are no fault.")
    allow_several: bool = option(False, "Subjects with several true objects are no fault.")
    min_sitelinks: int | None = option(None, "Fewest wikis with a page about the subject.")
    max_sitelinks: int | None = option(None, "Most wikis with a page about the subject.")

    def __post_init__(self) -> None:
        if self.max_per_entity < 1:
            raise ConfigError(f"max per entity is {self.max_per_entity}; expected at least 1")
        if self.build is None and (self.min_sitelinks, self.max_sitelinks) != (None, None):
            raise ConfigError("how many sitelinks a subject has, only a build's facts tell; give --build")
        if self.fix is not None and self.fix.resolve() == self.file.resolve():
            raise ConfigError(f"{self.fix} is the audited file itself; give --fix another name")


@dataclass(frozen=True, slots=True)
class Example:
    """One fault as a summary shows it."""

    line: int
    case_id: int | None
    path: str
    got: str
    expected: str


@dataclass(slots=True)
class RuleSummary:
    """How many faults a rule found, in how many rows, and the first few."""

    faults: int = 0
    rows: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class AuditSummary:
    """What an audit found. `known` rows are about facts of the build; `written` and `dropped` rows are of `--fix`."""

    rows: int = 0
    faulty: int = 0
    known: int | None = None
    written: int | None = None
    dropped: int | None = None
    rules: dict[str, RuleSummary] = field(default_factory=dict)


def audit(options: AuditOptions, progress: Progress = silent) -> AuditSummary:
    """Run every rule that applies on every row; write the cleaned file and OUT.changes.jsonl if asked.

    Raises DataError if the file cannot be read or holds no row, BuildStateError if the build has no facts.
    """
    rows = list(read_located(options.file))
    if not rows:
        raise DataError(f"{options.file}: holds no rows; expected a JSON array or JSON lines of records")
    sheets = [sheet_of(located.row) if _writable(located.row) else None for located in rows]
    context = AuditContext(
        _learned(sheets), options.max_per_entity, options.allow_symmetric, options.allow_several, _rules(options)
    )
    found = [*_find(rows, sheets, context, progress)]
    summary = _summarize(rows, found)
    if context.rules is not None:
        summary.known = sum(one is not None and resolve(one, context.rules) is not None for one in sheets)
    if options.fix is not None:
        summary.written = _fix(options.file, options.fix, rows, sheets, found)
        summary.dropped = summary.rows - summary.written
    return summary


def _writable(row: Any) -> bool:
    """Whether a row can be written again: half a character cannot, nor can a byte that is not UTF-8."""
    try:
        jsonl.dump_row({"": row}).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _rules(options: AuditOptions) -> RuleContext | None:
    if options.build is None:
        return None
    facts, entities = (options.build.require(name) for name in ("facts.jsonl", "entities.jsonl"))
    graph = FactGraph(
        jsonl.read_values(facts, conforming("facts", codec.decode_fact)),
        jsonl.read_values(entities, conforming("entities", codec.decode_entity)),
    )
    return RuleContext(
        graph,
        {},
        allow_symmetric=options.allow_symmetric,
        min_sitelinks=options.min_sitelinks,
        max_sitelinks=options.max_sitelinks,
    )


def _learned(sheets: Sequence[Sheet | None]) -> Templates:
    templates = Templates()
    for sheet in sheets:
        if sheet is not None:
            clean = [(sheet.split(place)[1], sheet.subject) for place in range(len(sheet.group("paraphrase")))]
            templates.learn(sheet.relation, sheet.template, clean)
    return templates


def _find(
    rows: Sequence[Located], sheets: Sequence[Sheet | None], context: AuditContext, progress: Progress
) -> Iterator[list[Fault]]:
    """The faults of each row: its own, and those it has beside the rows before it."""
    edits: dict[tuple[str, str], tuple[int, str]] = {}
    lines: dict[int, int] = {}
    for place, (located, sheet) in enumerate(zip(rows, sheets, strict=True)):
        if place % 1000 == 0:
            progress("rows", place, len(rows))
        if sheet is None:
            known = "CounterFact's keys, or EasyEdit's prompt, subject and target_new, in UTF-8"
            yield [located.fault or Fault("", "row-format", show(located.row), known)]
        else:
            yield [*faults(sheet, context), *_beside_others(sheet, located.line, edits, lines)]
    progress("rows", len(rows), len(rows))


def _beside_others(
    sheet: Sheet, line: int, edits: dict[tuple[str, str], tuple[int, str]], lines: dict[int, int]
) -> Iterator[Fault]:
    """One edit for a subject and relation (or prompt, where relations are not told), one row for a case id."""
    key = sheet.subject_id or sheet.subject, sheet.relation or sheet.template
    first, target = edits.setdefault(key, (line, sheet.target_new.label))
    if first != line:
        what = "again" if target == sheet.target_new.label else f"{show(target)} in line {first}"
        yield Fault("", "conflicting-edits", f"{show(sheet.subject)}: {what}", "one edit of a subject and relation")
    if sheet.case_id is not None and lines.setdefault(sheet.case_id, line) != line:
        yield Fault("/case_id", "duplicate-case-id", str(sheet.case_id), "an id that no other row has")


def _summarize(rows: Sequence[Located], found: Sequence[Sequence[Fault]]) -> AuditSummary:
    summary = AuditSummary(rows=len(rows), faulty=sum(map(bool, found)))
    for located, row_faults in zip(rows, found, strict=True):
        case_id = located.row.get("case_id") if isinstance(located.row, dict) else None
        for fault in row_faults:
            entry = summary.rules.setdefault(fault.rule, RuleSummary())
            entry.faults += 1
            if len(entry.examples) < EXAMPLES:
                entry.examples.append(Example(located.line, case_id, fault.path, fault.got, fault.expected))
        for rule in {fault.rule for fault in row_faults}:
            summary.rules[rule].rows += 1
    summary.rules = dict(sorted(summary.rules.items(), key=lambda item: (-item[1].faults, item[0])))
    return summary


def _fix(
    source: Path,
    target: Path,
    rows: Sequence[Located],
    sheets: Sequence[Sheet | None],
    found: Sequence[Sequence[Fault]],
) -> int:
    """Write the rows that are left, in the file's own form, and what was changed; return how many are left."""
    kept: list[Any] = []
    changes: list[dict[str, Any]] = []
    for located, sheet, row_faults in zip(rows, sheets, found, strict=True):
        row, notes = (None, [_note("drop-row", row_faults[0])]) if sheet is None else _mend(located, sheet, row_faults)
        case_id = sheet.case_id if sheet else None
        changes += [{"line": located.line, "case_id": case_id, **note} for note in notes]
        if row is not None:
            kept.append(row)
    with source.open("rb") as stream:
        array = stream.read(4).removeprefix(b"\xef\xbb\xbf")[:1] == b"["
    if array:
        jsonl.write_json(target, kept)
    else:
        jsonl.write_jsonl(target, kept)
    jsonl.write_jsonl(target.with_name(target.name + ".changes.jsonl"), changes)
    return len(kept)


def _mend(located: Located, sheet: Sheet, row_faults: Sequence[Fault]) -> tuple[Any, list[dict[str, Any]]]:
    """The row without its faults, or None if too little would be left; and a note for each change."""
    row = copy.deepcopy(located.row)
    removed: dict[str, set[int]] = {}
    notes = []
    for fault in row_faults:
        group, place = _place(fault.path)
        if fault.rule == "repeated-generation":
            row["generation_prompts"] = list(dict.fromkeys(row["generation_prompts"]))
            notes.append(_note("remove-repeats", fault))
        elif place is None or _list(row, group) is None:
            return None, [_note("drop-row", fault)]
        elif fault.rule in CLEANED and place not in removed.get(group, ()):
            row[group][place] = _strip_prefix(row, sheet, place)
            notes.append(_note("remove-prefix", fault))
        else:
            removed.setdefault(group, set()).add(place)
            notes.append(_note("remove-prompt", fault))
    for group, places in removed.items():
        _remove(row, group, places)
        if group == "paraphrase_prompts" and not row[group]:
            return None, [_note("drop-row", next(one for one in row_faults if one.path.startswith(f"/{group}")))]
    return row, notes


def _strip_prefix(row: Mapping[str, Any], sheet: Sheet, place: int) -> str:
    clean = sheet.split(place)[1]
    details = (row.get("meta") or {}).get("paraphrases")
    if details:
        details[place]["prefix"] = ""
    return clean


def _remove(row: Mapping[str, Any], group: str, places: set[int]) -> None:
    meta = row.get("meta") or {}
    beside = [meta[name] for name in LISTED if group == f"{name.removesuffix('s')}_prompts" and name in meta]
    for one in (_list(row, group) or [], *beside):
        one[:] = [value for place, value in enumerate(one) if place not in places]
    holder, _, name = group.rpartition("/")
    if holder == "meta/groups" and not meta["groups"][name]:
        del meta["groups"][name]


def _list(row: Any, group: str) -> list[Any] | None:
    """The list at a place in the row, such as `locality/Forgetfulness`; None for anything else."""
    for key in group.split("/"):
        row = row.get(key) if isinstance(row, dict) else None
    return row if isinstance(row, list) else None


def _place(path: str) -> tuple[str, int | None]:
    """The group and number of a prompt in a list; None for anything else."""
    group, _, number = path[1:].rpartition("/")
    return group, int(number) if number.isdecimal() else None


def _note(change: str, fault: Fault) -> dict[str, Any]:
    return {"change": change, "rule": fault.rule, "path": fault.path, "got": fault.got, "expected": fault.expected}
