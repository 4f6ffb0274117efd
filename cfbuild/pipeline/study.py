"""`cfbuild study`: the human evaluation. `make` writes a page a rater and the key; `read` says what came back.

The key stays with whoever made the study: pages name no system, and answers only letters.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
"""The file that says which passage is whose, and the folder of what is given away."""
FORMAT = "cfbuild study 1"
NAME_LENGTH = 12
"""Characters of a study's name, a digest of all that is in it."""
CODE_LENGTH = 3
"""Hex digits behind a rater's number, as the paper's participant codes have: who mistypes the number is found."""
LONGEST_ANSWERS = 1 << 20
"""The most bytes of a file of answers; a code has some hundred."""


@dataclass(frozen=True, slots=True)
class StudyOptions:
    """Options of `cfbuild study make`; the defaults are the numbers of the ROME paper's study."""

    file: Path | None = option(None, "The file that was scored, if it was not the build's records.", flag="--file -f")
    runs: tuple[str, ...] = option(
        (), "The runs to compare, with commas between. [default: all]", flag="--runs", form=COMMA_SEPARATED
    )
    unedited: bool = option(False, "Compare with the texts of the unedited model too.")
    cases: int = option(50, "How many records to draw.")
    raters: int = option(15, "How many people rate.")
    pages: int = option(10, "How many records each person sees.")
    out: Path | None = option(None, "The study's folder. [default: study in the build]")
    seed: int = seed_option()


@dataclass(frozen=True, slots=True)
class StudyMade:
    """A study that `make` made: its name, its folder, the systems, its numbers, and how well it is balanced.

    `eligible` is the number of records that had texts of every system, `alike` that of drawn cases two of whose
    passages are the same text.
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
    """The result of `read`: votes by question, answers that count, and the faults of the others."""

    study: str
    systems: tuple[str, ...]
    expected: int
    checked: Checked
    votes: Mapping[str, QuestionVotes]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "study": self.study,
            "systems": list(self.systems),
            "raters": {"expected": self.expected, "counted": list(self.checked.pages)},
            "questions": {question: votes.as_dict() for question, votes in self.votes.items()},
            "errors": list(self.checked.errors),
            "warnings": list(self.checked.warnings),
        }


# --------------------------------------------------------------------------------------------------------------- make


def make(folder: BuildFolder, options: StudyOptions, progress: Progress = silent) -> StudyMade:
    """Draw records, write the raters' pages and the key; return what was made. The same inputs give the same bytes.

    A record can be drawn if every run has texts of it; a system's passage is its first text, as in the paper's study.
    Raises ConfigError for numbers that do not fit together, with those that would, BuildStateError for runs that are
    not there, scored another file, or have no texts, and for a folder that holds another study.
    """
    from cfbuild.audit.validate import read_records
    from cfbuild.score.table import UNEDITED
    from cfbuild.study.design import StudySize, balance, design

    read = read_records(options.file or folder.require("records.jsonl"))
    runs = _chosen_runs(folder, read, options)
    systems = ((UNEDITED,) if options.unedited else ()) + tuple(run.name for run in runs)
    size = StudySize(options.raters, options.pages, options.cases, len(systems))
    texts = _texts(runs, options.unedited, progress)
    records = _drawn([record for record in read.records if record.case_id in texts], size, options.seed)
    plan = design(size, options.seed)
    pages = [[_rated(page, records, texts) for page in some] for some in plan]
    key = _key(runs, systems, records, plan, options.seed)
    study = sha256_text(json.dumps([key, [[_plain(page) for page in some] for some in pages]], sort_keys=True))
    named = _named_key(key, study[:NAME_LENGTH])
    out = options.out or folder.path("study")
    _write(out, named, pages, progress)
    chosen = [texts[record.case_id] for record in records]
    alike = sum(len(set(some)) < len(some) for some in chosen)
    eligible = sum(record.case_id in texts for record in read.records)
    made = balance(plan, size)
    return StudyMade(named["study"], out, systems, size.cases, eligible, size.raters, size.pages, made, alike)


def _chosen_runs(folder: BuildFolder, read: RecordFile, options: StudyOptions) -> list[ScoredRun]:
    """Return the runs to compare. Raises BuildStateError for one that scored another file, ConfigError for too few."""
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
    """Return by case id the first text of each system, the unedited model's first, where all have one.

    Raises ConfigError if runs wrote different texts before their edits, so that no text is the unedited model's.
    """
    found: dict[int, tuple[str, ...]] = {}
    for place, run in enumerate(runs):
        progress("runs read", place, len(runs))
        cases = (case for case in run.cases() if case.pre.generations or not unedited)
        own = {case.case_id: case for case in cases if case.post and case.post.generations}
        if place == 0:
            found = {case_id: case.pre.generations[:1] if unedited else () for case_id, case in own.items()}
        found = {case_id: texts for case_id, texts in found.items() if case_id in own}
        before = {case_id: own[case_id].pre.generations[:1] for case_id in found}
        differing = [case_id for case_id, texts in found.items() if unedited and before[case_id] != texts[:1]]
        if differing:
            raise ConfigError(
                f"--unedited: before its edits the run {run.name} wrote other texts than {runs[0].name}, first of case "
                f"{differing[0]}; compare runs of the same model, number format and seed, or leave out --unedited"
            )
        posts = {case_id: post for case_id, case in own.items() if (post := case.post)}
        found = {case_id: (*texts, posts[case_id].generations[0]) for case_id, texts in found.items()}
    progress("runs read", len(runs), len(runs))
    return found


def _drawn(eligible: Sequence[Record], size: StudySize, seed: int) -> list[Record]:
    """Return the records of the study. Raises ConfigError, saying which numbers would do, if there are too few."""
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


def _rated(page: PagePlan, records: Sequence[Record], texts: Mapping[int, tuple[str, ...]]) -> RatedPage:
    from cfbuild.views.study import RatedPage

    record = records[page.case]
    passages = tuple(texts[record.case_id][system] for system in page.order)
    return RatedPage(f"{record.rewrite} {record.target_new.label}", passages, record.language)


def _plain(page: RatedPage) -> list[Any]:
    return [page.statement, list(page.passages), page.language]


def _key(
    runs: Sequence[ScoredRun],
    systems: Sequence[str],
    records: Sequence[Record],
    plan: Sequence[Sequence[PagePlan]],
    seed: int,
) -> dict[str, Any]:
    """Return the key without names of study and raters, which are digests of it."""
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
    """Return the key with the study's name and those of raters: a number, and some digits of a digest."""
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
    for number, (rater, own_pages) in enumerate(zip(key["raters"], pages, strict=True)):
        progress("pages", number, len(pages))
        write_atomic(out / PAGES / f"rater-{rater}.html", [rater_page(key["study"], rater, own_pages)])
    progress("pages", len(pages), len(pages))


# --------------------------------------------------------------------------------------------------------------- read


def read_answers(root: Path, answers: Sequence[Path], skip_invalid: bool = False) -> StudyRead:
    """Return what the answers to a study say.

    answers: files with codes, or folders of such files. Raises DataError listing all that is wrong, unless
    `skip_invalid` leaves that out; and where no answer is left.
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
        told = "".join(f"\n- {error}" for error in checked.errors)
        raise DataError(f"{len(checked.errors)} of the answers cannot be used:{told}\n--skip-invalid leaves them out")
    if not checked.pages:
        raise DataError(f"no answers are left to read{''.join(f'; {error}' for error in checked.errors)}")
    votes = {question: _votes(place, key, checked) for place, question in enumerate(QUESTIONS)}
    return StudyRead(key["study"], systems, len(raters), checked, votes)


def _votes(question: int, key: Mapping[str, Any], checked: Checked) -> QuestionVotes:
    from cfbuild.study.answers import answer
    from cfbuild.study.votes import Ranking, count_votes

    systems = key["systems"]
    rankings = []
    for rater, pages in checked.pages.items():
        for page, given in zip(key["raters"][rater], pages, strict=True):
            named = answer(given, question)
            if named is not None:
                most, least = (systems.index(page["order"][place]) for place in named)
                rankings.append(Ranking.of(page["case_id"], rater, (most, least), len(systems)))
    return count_votes(rankings, systems)


def _files(answers: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file of answers. Raises DataError for one that cannot be read."""
    for given in answers:
        inside = [given]
        if given.is_dir():
            inside = sorted(path for path in given.iterdir() if path.is_file() and not path.name.startswith("."))
        if not inside:
            raise DataError(f"{given}: the folder holds no files; expected files of answers")
        for path in inside:
            try:
                with path.open("rb") as stream:
                    body = stream.read(LONGEST_ANSWERS + 1)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from error
            if len(body) > LONGEST_ANSWERS:
                raise DataError(f"{path}: has more than {LONGEST_ANSWERS:,} bytes; expected codes of some hundred each")
            yield str(path), body.decode("utf-8", "replace")


def _read_key(path: Path) -> dict[str, Any]:
    """Return a study's key. Raises DataError for a file that is none."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; expected the folder that `cfbuild study make` wrote")
    key = read_json(path)
    if not _is_key(key):
        raise DataError(f"{path}: is not the key of a study, or was changed; make the study again with its options")
    return dict(key)


def _is_key(key: Any) -> bool:
    try:
        systems = sorted(key["systems"])
        pages = [page for some in key["raters"].values() for page in some]
        return (
            key["format"] == FORMAT
            and isinstance(key["study"], str)
            and len(systems) > 1
            and all(isinstance(page["case_id"], int) and sorted(page["order"]) == systems for page in pages)
        )
    except (KeyError, TypeError, AttributeError):
        return False
