"""`cfbuild study`: the human evaluation. `make` writes a page for each rater and the key; `read` counts the answers.

A system is a run, or the unedited model. Pages name no system, and answers have only letters; the key says which
letter was which system.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfbuild import __version__
from cfbuild.errors import BuildStateError, ConfigError, DataError
from cfbuild.option import COMMA_SEPARATED, option, seed_option
from cfbuild.progress import Progress, silent
from cfbuild.store.files import sha256_text, write_atomic
from cfbuild.store.jsonl import read_json, write_json

if TYPE_CHECKING:
    from cfbuild.audit.validate import RecordFile
    from cfbuild.data import Record
    from cfbuild.score.scored import ScoredRun
    from cfbuild.store.folder import BuildFolder
    from cfbuild.study.answers import Checked
    from cfbuild.study.design import Balance, PagePlan, StudySize
    from cfbuild.study.votes import QuestionVotes
    from cfbuild.views.study import RatedPage

KEY, PAGES = "key.json", "pages"
"""The key's file, and the folder of the raters' pages."""
FORMAT = "cfbuild study 1"
"""The format that a key names, so that `read` refuses any other file."""
NAME_LENGTH = 12
"""Characters of a study's name, a digest of all that is in it."""
CODE_LENGTH = 3
"""Hex digits behind a rater's number, as the paper's participant codes have: who mistypes the number is found."""
LONGEST_ANSWERS = 1 << 20
"""The most bytes of a file of answers: a code has some hundred, so this is room for thousands."""


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """Options of `cfbuild study make`; the defaults are the numbers of the ROME paper's study."""

    file: Path | None = option(None, "The file that the runs scored. [default: the build's records]", flag="--file -f")
    runs: tuple[str, ...] = option((), "Comma-separated runs to compare. [default: all]", form=COMMA_SEPARATED)
    unedited: bool = option(False, "Also compare with the texts of the unedited model.")
    cases: int = option(50, "Draw N records.")
    raters: int = option(15, "Write pages for N people.")
    pages: int = option(10, "Show each person N records, a page for each.")
    out: Path | None = option(None, "The study's folder. [default: study in the build]")
    seed: int = seed_option()


@dataclass(frozen=True, slots=True)
class StudyMade:
    """A study that `make` wrote: its name, its folder, the systems, its numbers, and how well it is balanced.

    eligible: the number of records that had texts of every system.
    alike: the number of drawn cases that have the same text of two systems.
    """

    study: str
    folder: Path
    systems: tuple[str, ...]
    cases: int
    eligible: int
    raters: int
    pages: int
    balance: Balance
    alike: int


@dataclass(frozen=True, slots=True)
class StudyRead:
    """The result of `read`: the number of raters expected, the checked answers, and votes by question."""

    study: str
    systems: tuple[str, ...]
    expected: int
    checked: Checked
    votes: Mapping[str, QuestionVotes]

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON has it."""
        return {
            "study": self.study,
            "systems": list(self.systems),
            "raters": {"expected": self.expected, "counted": list(self.checked.pages)},
            "questions": {question: asdict(votes) for question, votes in self.votes.items()},
            "errors": list(self.checked.errors),
            "warnings": list(self.checked.warnings),
        }


def make(folder: BuildFolder, options: StudyOptions, progress: Progress = silent) -> StudyMade:
    """Draw records, write the raters' pages and the key; return what was made.

    A record can be drawn if every run has texts of it; a system's passage is its first text, as in the paper's study.
    The same inputs give the same bytes. Raises ConfigError for numbers that do not fit together, and names some that
    do; BuildStateError for runs that do not exist, scored another file, or have no texts, and for a folder that holds
    another study.
    """
    from cfbuild.audit.validate import read_records
    from cfbuild.score.table import UNEDITED
    from cfbuild.study.design import StudySize, balance, design

    read = read_records(options.file or folder.require("records.jsonl"))
    runs = _chosen_runs(folder, read, options)
    systems = ((UNEDITED,) if options.unedited else ()) + tuple(run.name for run in runs)
    size = StudySize(options.raters, options.pages, options.cases, len(systems))
    texts = _texts(runs, options.unedited, progress)
    eligible = [record for record in read.records if record.case_id in texts]
    records = _drawn(eligible, size, options.seed)
    plan = design(size, options.seed)
    pages = [[_page(page, records, texts) for page in of_rater] for of_rater in plan]
    key = _key(runs, systems, records, plan, options.seed)
    plain = [[[page.statement, list(page.passages), page.language] for page in of_rater] for of_rater in pages]
    study = sha256_text(json.dumps([key, plain], sort_keys=True))[:NAME_LENGTH]
    out = options.out or folder.path("study")
    _write(out, _named_key(key, study), pages, progress)
    passages = [texts[record.case_id] for record in records]
    alike = sum(len(set(of_case)) < len(of_case) for of_case in passages)
    balanced = balance(plan, size)
    return StudyMade(study, out, systems, size.cases, len(eligible), size.raters, size.pages, balanced, alike)


def _chosen_runs(folder: BuildFolder, read: RecordFile, options: StudyOptions) -> list[ScoredRun]:
    """Return the runs to compare. Raises BuildStateError if one scored another file, ConfigError for too few."""
    from cfbuild.pipeline.report import runs_of
    from cfbuild.score.table import UNEDITED

    runs, left_out = runs_of(folder, read, options.runs)
    if left_out and options.runs:
        raise BuildStateError(f"{', '.join(left_out)}: scored another file than {read.path}; name that one by --file")
    if any(run.name == UNEDITED for run in runs) and options.unedited:
        raise ConfigError(f"a run is called {UNEDITED} too; choose others by --runs, or leave out --unedited")
    if len(runs) + options.unedited < 2:
        raise ConfigError(
            f"{len(runs)} run and nothing to compare it with; name two runs by --runs, or give --unedited"
            if runs
            else f"{folder.root} has no run; run `cfbuild validate-and-score` first"
        )
    return runs


def _texts(runs: Sequence[ScoredRun], unedited: bool, progress: Progress) -> dict[int, tuple[str, ...]]:
    """Return the first text of each system (the unedited model first), by the case ids of which all have one.

    Raises ConfigError if runs wrote different texts before their edits, so that no text is the unedited model's.
    """
    texts: dict[int, tuple[str, ...]] = {}
    for place, run in enumerate(runs):
        progress("runs read", place, len(runs))
        with_texts = [case for case in run.cases() if case.pre.generations or not unedited]
        before = {case.case_id: case.pre.generations[:1] for case in with_texts}
        after = {case.case_id: case.post.generations[0] for case in with_texts if case.post and case.post.generations}
        if place == 0:
            texts = {case_id: before[case_id] if unedited else () for case_id in after}
        texts = {case_id: earlier for case_id, earlier in texts.items() if case_id in after}
        differing = [case_id for case_id, earlier in texts.items() if unedited and before[case_id] != earlier[:1]]
        if differing:
            raise ConfigError(
                f"--unedited: before its edits the run {run.name} wrote other texts than {runs[0].name}, first of case "
                f"{differing[0]}; compare runs of the same model, number format and seed, or leave out --unedited"
            )
        texts = {case_id: (*earlier, after[case_id]) for case_id, earlier in texts.items()}
    progress("runs read", len(runs), len(runs))
    return texts


def _drawn(eligible: Sequence[Record], size: StudySize, seed: int) -> list[Record]:
    """Return the records of the study. Raises ConfigError if too few are eligible, and says which numbers would do."""
    if len(eligible) < size.cases:
        fitting = size.fitting_cases(len(eligible))
        advice = (
            f"--cases {fitting[-1]} would do"
            if fitting
            else f"--pages must be at most {len(eligible)} too"
            if eligible
            else "run validate-and-score without --skip-generation"
        )
        raise ConfigError(
            f"{len(eligible)} records have texts in all of the runs, and --cases is {size.cases}; {advice}"
        )
    return random.Random(f"{seed}:study:cases").sample(list(eligible), size.cases)


def _page(page: PagePlan, records: Sequence[Record], texts: Mapping[int, tuple[str, ...]]) -> RatedPage:
    """Return a page as the rater sees it. The plan's case and order are positions in `records` and in their texts."""
    from cfbuild.views.study import RatedPage

    record = records[page.case]
    passages = tuple(texts[record.case_id][system] for system in page.order)
    return RatedPage(f"{record.rewrite} {record.target_new.label}", passages, record.language)


def _key(
    runs: Sequence[ScoredRun],
    systems: Sequence[str],
    records: Sequence[Record],
    plan: Sequence[Sequence[PagePlan]],
    seed: int,
) -> dict[str, Any]:
    """Return the key without the names of study and raters, which are made of its digest."""
    return {
        "format": FORMAT,
        "cfbuild": __version__,
        "seed": seed,
        "systems": list(systems),
        "signatures": {run.name: run.report.signature for run in runs},
        "raters": [
            [{"case_id": records[page.case].case_id, "order": [systems[i] for i in page.order]} for page in pages]
            for pages in plan
        ],
    }


def _named_key(key: Mapping[str, Any], study: str) -> dict[str, Any]:
    """Return the key with the name of the study and of each rater, such as 07-3fa: a number and digits of a digest."""
    width = len(str(len(key["raters"])))
    raters = {
        f"{number:0{width}d}-{sha256_text(f'{study}:{number}')[:CODE_LENGTH]}": pages
        for number, pages in enumerate(key["raters"], 1)
    }
    return {**key, "study": study, "raters": raters}


def _write(out: Path, key: Mapping[str, Any], pages: Sequence[Sequence[RatedPage]], progress: Progress) -> None:
    """Write pages and key. Raises BuildStateError if the folder holds another study."""
    from cfbuild.views.study import rater_page

    file = out / KEY
    if file.exists() and _read_key(file)["study"] != key["study"]:
        raise BuildStateError(
            f"{out} holds another study, whose answers may still come; choose another --out, or move that one away"
        )
    (out / PAGES).mkdir(parents=True, exist_ok=True)
    write_json(file, dict(key))
    for number, (rater, of_rater) in enumerate(zip(key["raters"], pages, strict=True)):
        progress("pages", number, len(pages))
        write_atomic(out / PAGES / f"rater-{rater}.html", [rater_page(key["study"], rater, of_rater)])
    progress("pages", len(pages), len(pages))


def read_answers(root: Path, answers: Sequence[Path], skip_invalid: bool = False) -> StudyRead:
    """Return the votes in the answers to a study.

    root: the study's folder, which has the key.
    answers: files with codes, or folders of such files.
    Raises DataError listing all that is wrong with them, unless `skip_invalid` leaves that out; or if no answer counts.
    """
    from cfbuild.study.answers import QUESTIONS, Expected, check, codes_in

    key = _read_key(root / KEY)
    raters, systems = key["raters"], tuple(key["systems"])
    sent, errors = [], []
    for origin, text in _files(answers):
        codes, faults = codes_in(text, origin)
        sent += codes
        errors += faults
    expected = Expected(key["study"], {rater: len(pages) for rater, pages in raters.items()}, len(systems))
    checked = check(sent, expected)
    checked = replace(checked, errors=(*errors, *checked.errors))
    if checked.errors and not skip_invalid:
        errors_listed = "".join(f"\n- {error}" for error in checked.errors)
        raise DataError(
            f"{len(checked.errors)} of the answers cannot be used:{errors_listed}\n--skip-invalid leaves them out"
        )
    if not checked.pages:
        raise DataError(f"no answers are left to read{''.join(f'; {error}' for error in checked.errors)}")
    votes = {question: _votes(place, key, checked) for place, question in enumerate(QUESTIONS)}
    return StudyRead(key["study"], systems, len(raters), checked, votes)


def _votes(question: int, key: Mapping[str, Any], checked: Checked) -> QuestionVotes:
    """Return the votes on a question, of which `question` is the place in QUESTIONS."""
    from cfbuild.study.answers import answer
    from cfbuild.study.votes import Ranking, count_votes

    systems = key["systems"]
    rankings = []
    for rater, pages in checked.pages.items():
        for page, given in zip(key["raters"][rater], pages, strict=True):
            places = answer(given, question)
            if places is not None:
                most, least = (systems.index(page["order"][place]) for place in places)
                rankings.append(Ranking.of(page["case_id"], rater, (most, least), len(systems)))
    return count_votes(rankings, systems)


def _files(answers: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file of answers. Raises DataError for one that cannot be read."""
    for given in answers:
        paths = [given]
        if given.is_dir():
            paths = sorted(path for path in given.iterdir() if path.is_file() and not path.name.startswith("."))
        if not paths:
            raise DataError(f"{given}: the folder holds no files; expected files of answers")
        for path in paths:
            try:
                with path.open("rb") as stream:
                    body = stream.read(LONGEST_ANSWERS + 1)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from error
            if len(body) > LONGEST_ANSWERS:
                raise DataError(f"{path}: has more than {LONGEST_ANSWERS:,} bytes; expected codes of some hundred each")
            yield str(path), body.decode("utf-8", "replace")


def _read_key(path: Path) -> dict[str, Any]:
    """Return a study's key. Raises DataError for a file that is not a key."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected the folder that `cfbuild study make` wrote")
    key = read_json(path)
    if not _is_key(key):
        raise DataError(f"{path}: is not the key of a study, or was changed; make the study again with its options")
    return dict(key)


def _is_key(key: Any) -> bool:
    try:
        systems = sorted(key["systems"])
        pages = [page for of_rater in key["raters"].values() for page in of_rater]
        return (
            key["format"] == FORMAT
            and isinstance(key["study"], str)
            and len(systems) > 1
            and all(isinstance(page["case_id"], int) and sorted(page["order"]) == systems for page in pages)
        )
    except (KeyError, TypeError, AttributeError):
        return False
