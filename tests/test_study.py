"""The human evaluation: who rates what, what a page gives away, what answers survive, what the votes say."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from itertools import combinations, permutations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, chromium, find_chromium, serious
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from scored_build import HOSTILE, records, write_run, write_scored
from typer.testing import CliRunner

from cfbuild.cli import app
from cfbuild.errors import BuildStateError, ConfigError, DataError
from cfbuild.pipeline.study import StudyOptions, make, read_answers
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows, write_jsonl
from cfbuild.store.runs import new_run
from cfbuild.study.answers import LETTERS, Sent, code_of, codes_in
from cfbuild.study.design import PagePlan, StudySize, balance, design
from cfbuild.study.votes import Ranking, alpha_of, coincidences, count_votes, sign_test

PAPER = {
    "consistency": {"rfu": 60, "ruf": 29, "fru": 36, "fur": 9, "urf": 8, "ufr": 8},
    "fluency": {"rfu": 23, "ruf": 17, "fru": 21, "fur": 32, "urf": 24, "ufr": 33},
}
"""The only numbers of pages by order, most first (r ROME, f FT+L, u unedited), that have the paper's counts."""
NAMES = {"r": "rome", "f": "ft-l", "u": "unedited"}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    return write_scored(tmp_path_factory.mktemp("study") / "build", records(60, hostile=True), runs=("rome", "ft-l"))


@pytest.fixture(scope="module")
def study(build: BuildFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the paper's study: three systems, 50 cases, 15 raters of 10 pages."""
    out = tmp_path_factory.mktemp("made") / "study"
    made = make(build, StudyOptions(runs=("rome", "ft-l"), unedited=True, out=out))
    assert (made.systems, made.eligible, made.alike) == (("unedited", "rome", "ft-l"), 57, 0)
    assert made.balance.shared == (1, 2) and made.balance.orders == (25, 25)
    return out


def key_of(study: Path) -> dict[str, Any]:
    key: dict[str, Any] = json.loads((study / "key.json").read_text())
    return key


# ------------------------------------------------------------------------------------------------------------- design


def raters_of(pages: Sequence[Sequence[PagePlan]]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for rater, rated in enumerate(pages):
        for page in rated:
            found.setdefault(page.case, []).append(rater)
    return found


FITTING = [
    (raters, pages, cases)
    for raters in range(1, 10)
    for pages in range(1, 13)
    for cases in range(pages, raters * pages + 1)
    if raters * pages % cases == 0
]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(FITTING), st.integers(2, 4), st.integers(0, 3))
def test_every_design_is_balanced(numbers: tuple[int, int, int], systems: int, seed: int) -> None:
    raters, pages, cases = numbers
    size = StudySize(raters, pages, cases, systems)
    plan = design(size, seed)
    assert design(size, seed) == plan and [len(rater_pages) for rater_pages in plan] == [pages] * raters
    of_case = raters_of(plan)
    assert sorted(of_case) == list(range(cases)) and {len(rater_pages) for rater_pages in of_case.values()} == {
        size.each
    }
    assert all(
        len(set(rater_pages)) == len(rater_pages) for rater_pages in of_case.values()
    )  # no rater sees a case twice
    orders = [page.order for rater_pages in plan for page in rater_pages]
    assert all(sorted(order) == list(range(systems)) for order in orders)
    count = factorial(systems) if factorial(systems) <= size.ratings else systems
    assert len(set(orders)) <= count and _spread(orders, count) <= 1
    for rater_pages in plan:
        assert _spread([page.order for page in rater_pages], count) <= 1
    for case in range(cases):
        own = [page.order for rater_pages in plan for page in rater_pages if page.case == case]
        assert _spread(own, count) <= 1 and (len(own) > count or len(set(own)) == len(own))


def _spread(values: Sequence[object], kinds: int) -> int:
    """Return the difference in number between the most frequent and the rarest of these kinds."""
    counts = Counter(values)
    return max(counts.values()) - (min(counts.values()) if len(counts) == kinds else 0)


def test_the_papers_design_shares_as_few_cases_as_can_be() -> None:
    """150 pairs of raters over 50 cases, and only 105 pairs there are: some must meet twice, none three times."""
    size = StudySize(15, 10, 50, 3)
    for seed in range(5):
        plan = design(size, seed)
        groups = [frozenset(some) for some in raters_of(plan).values()]
        assert len(set(groups)) == 50  # no trio of raters shares two cases
        met = Counter(pair for group in groups for pair in combinations(sorted(group), 2))
        assert len(met) == 105 and set(met.values()) == {1, 2}
        assert Counter(page.order for some in plan for page in some) == dict.fromkeys(permutations(range(3)), 25)
    assert design(size, 0) != design(size, 1)


def test_what_cannot_be_met_is_counted() -> None:
    size = StudySize(3, 10, 10, 2)
    found = balance(design(size, 0), size)
    assert found.shared == (10, 10) and found.same_groups == 9 and found.repeated == 10  # three raters, two orders


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (
            (15, 10, 40, 3),
            r"150 ratings, no multiple of --cases 40.*--cases 30 or 50; --raters 12 or 16; --pages 8 or 16",
        ),
        ((15, 10, 9, 3), "--pages 10 of --cases 9: a rater would see a case twice; expected at most 9 pages"),
        ((15, 0, 9, 3), "pages is 0; expected at least 1"),
        ((15, 10, 50, 7), "7 systems to compare; expected 2 to 6"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_with_those_that_do(numbers: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StudySize(*numbers)
    for cases, raters, pages in ((30, 15, 10), (50, 15, 10), (40, 12, 10), (40, 16, 10), (40, 15, 8), (40, 15, 16)):
        assert StudySize(raters, pages, cases, 3).each


# --------------------------------------------------------------------------------------------------------------- make


def test_the_same_seed_gives_the_same_bytes_and_another_another_study(
    build: BuildFolder, study: Path, tmp_path: Path
) -> None:
    options = StudyOptions(runs=("rome", "ft-l"), unedited=True, out=tmp_path / "again")
    make(build, options)
    files = {path.relative_to(study): path.read_bytes() for path in study.rglob("*") if path.is_file()}
    assert len(files) == 16
    assert {file: (tmp_path / "again" / file).read_bytes() for file in files} == files
    with pytest.raises(BuildStateError, match="holds another study, whose answers may still come"):
        make(build, dataclasses.replace(options, seed=1))
    assert {file: (tmp_path / "again" / file).read_bytes() for file in files} == files


class _Read(HTMLParser):
    """A page's tags, and its passages and statements as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "blockquote" or dict(attrs).get("class") == "passage"
        if self._inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data


def test_a_page_shows_the_statements_and_the_first_texts(build: BuildFolder, study: Path) -> None:
    key = key_of(study)
    cases = {
        name: {row["case_id"]: row for _, row in read_rows(build.path(f"runs/{name}/cases.jsonl"))}
        for name in ("rome", "ft-l")
    }
    rewrites = {row["case_id"]: row["requested_rewrite"] for _, row in read_rows(build.path("records.jsonl"))}
    for rater, pages in key["raters"].items():
        text = (study / "pages" / f"rater-{rater}.html").read_text(encoding="utf-8")
        read = _Read(text)
        shown = iter(read.texts)
        for page in pages:
            edit, case = rewrites[page["case_id"]], page["case_id"]
            if not any(sign in edit["subject"] for sign in "\x1b\u202e\u2066\x9b\x07"):
                assert next(shown) == f"{edit['prompt'].replace('{}', edit['subject'])} {edit['target_new']['str']}"
                for system in page["order"]:
                    stage = cases["rome"][case]["pre"] if system == "unedited" else cases[system][case]["post"]
                    assert next(shown) == stage["generations"][0]
            else:
                assert "[U+" in next(shown)
                [next(shown) for _ in page["order"]]
        assert next(shown, None) is None
        assert {tag for tag, _ in read.tags}.isdisjoint({"img", "link", "iframe", "object", "base", "a"})
        assert not [one for _, given in read.tags for one in given if one in ("src", "href") or one.startswith("on")]
        assert "default-src 'none'" in text and "\u202e" not in text and "\x1b" not in text


def test_no_page_gives_a_system_away(tmp_path: Path) -> None:
    build = write_scored(tmp_path / "build", records(13), runs=("zebra", "quagga"))
    make(build, StudyOptions(unedited=True, cases=12, raters=9, pages=4))
    key, frames = key_of(build.path("study")), set()
    assert key["systems"] == ["unedited", "quagga", "zebra"]
    for rater in key["raters"]:
        page = build.path(f"study/pages/rater-{rater}.html").read_text(encoding="utf-8")
        for word in ("zebra", "quagga", "unedited", "tiny", "case_id", "signature", "editor", "cfbuild"):
            assert word not in page.lower(), word
        # But for the texts and the participant's number all pages are the same bytes: nothing else tells of an order.
        frame = re.sub(r'(<blockquote[^>]*>|<p class="passage"[^>]*>)[^<]*', r"\1", page)
        frames.add(frame.replace(rater, ""))
    assert len(frames) == 1 and key["study"] in frames.pop()


def test_texts_of_three_runs_without_the_unedited_model(build: BuildFolder, tmp_path: Path) -> None:
    write_run(new_run(build, "memit"), records(60, hostile=True), "memit")
    made = make(build, StudyOptions(cases=6, raters=4, pages=3, out=tmp_path))  # all runs, by name
    assert made.systems == ("ft-l", "memit", "rome") and made.folder == tmp_path
    two = make(build, StudyOptions(runs=("memit",), unedited=True, cases=6, raters=4, pages=3, out=tmp_path / "two"))
    page = next((tmp_path / "two" / "pages").iterdir()).read_text()
    assert two.systems == ("unedited", "memit")
    assert "Which passage is more fluent?" in page and "least" not in _frame(page)


def _frame(page: str) -> str:
    return page[page.index("<body") : page.index("<script>")]


def test_builds_that_have_no_study_in_them_say_why(build: BuildFolder, tmp_path: Path) -> None:
    small = {"cases": 6, "raters": 4, "pages": 3, "out": tmp_path / "x"}
    with pytest.raises(BuildStateError, match="has no run nothing"):
        make(build, StudyOptions(runs=("rome", "nothing"), **small))
    with pytest.raises(ConfigError, match="1 run and nothing to compare it with"):
        make(build, StudyOptions(runs=("rome",), **small))
    with pytest.raises(
        ConfigError, match="57 records have texts in all of the runs, and --cases is 75; --cases 50 would do"
    ):
        make(build, StudyOptions(runs=("rome",), unedited=True, cases=75))
    small_build = write_scored(tmp_path / "other", records(8), runs=("rome", "ft"))
    path = small_build.path("runs/ft/cases.jsonl")
    rows = [row for _, row in read_rows(path)]
    rows[2]["pre"]["generations"][0] = "Something else."
    write_jsonl(path, rows)
    with pytest.raises(ConfigError, match="the run rome wrote other texts than ft, first of case 2"):
        make(small_build, StudyOptions(unedited=True, **small))
    write_jsonl(path, [{**row, "pre": {**row["pre"], "generations": []}, "post": None} for row in rows])
    with pytest.raises(ConfigError, match=r"0 records have texts in all.*without --skip-generation"):
        make(small_build, StudyOptions(**small))
    assert not (tmp_path / "x").exists()


# -------------------------------------------------------------------------------------------------------------- codes


def sent(key: dict[str, Any], place: int = 0, pages: Sequence[str] | None = None, **changed: str) -> Sent:
    rater = list(key["raters"])[place]
    return dataclasses.replace(Sent(key["study"], rater, tuple(pages or ["ABCA"] * 10)), **changed)


def write_codes(path: Path, *answers: Sent) -> Path:
    path.write_text("".join(f"Here are my answers:\n{code_of(one)}\nThanks!\n" for one in answers))
    return path


@given(st.lists(st.text("ABC-", min_size=4, max_size=4), min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_a_code_comes_back_from_any_mail(pages: list[str], draw: random.Random) -> None:
    answers = Sent("0123456789ab", "07-3fa", tuple(pages))
    code = code_of(answers)
    for _ in range(3):
        place = draw.randrange(len(code))
        code = code[:place] + draw.choice((" ", "\n", "\r\n", "\t")) + code[place:]
    found, errors = codes_in(f"My code:{code}Best wishes", "mail")
    assert errors == [] and found == [dataclasses.replace(answers, origin="mail")]
    assert codes_in(code.swapcase(), "mail") == (found, [])


def test_every_slip_of_a_character_is_found() -> None:
    answers = Sent("0123456789ab", "07-3fa", ("ABCA", "B-AC"))
    code = code_of(answers)
    for place in range(len(code)):
        for changed in (
            code[:place] + code[place + 1 :],
            *(code[:place] + sign + code[place + 1 :] for sign in "A7c-.:"),
        ):
            found, errors = codes_in(changed, "mail")
            assert errors or [dataclasses.replace(each, origin="") for each in found] == [answers], changed
    assert codes_in("Sorry, no time.", "mail")[1] == [
        "mail: holds no code; expected a text with cfs1:... as the page's end gives it"
    ]
    assert "cut short or damaged" in codes_in(code[:30], "mail")[1][0]


def test_answers_that_cannot_be_used_are_all_named_and_left_out_on_request(study: Path, tmp_path: Path) -> None:
    key = key_of(study)
    good = write_codes(tmp_path / "good.txt", sent(key, 0), sent(key, 1))
    files = {
        "other.txt": sent(key, 2, study="0" * 12),
        "nobody.txt": sent(key, 2, rater="99-abc"),
        "short.txt": sent(key, 3, ["ABCA"] * 9),
        "letters.txt": sent(key, 4, ["ABCD"] * 10),
        "differs.txt": sent(key, 1, ["ABAC"] * 10),
    }
    faulty = [write_codes(tmp_path / name, one) for name, one in files.items()]
    torn = tmp_path / "torn.txt"
    torn.write_text(code_of(sent(key, 5)).replace("ABCA", "ABCB", 1))
    with pytest.raises(DataError) as caught:
        read_answers(study, [good, *faulty, torn])
    message = str(caught.value)
    assert message.startswith("6 of the answers cannot be used") and message.endswith("--skip-invalid leaves them out")
    for name, words in (
        ("torn.txt", "does not fit its checksum"),
        ("other.txt", "are of another study, 000000000000; this one is"),
        ("nobody.txt", "rater 99-abc is none of this study's"),
        ("short.txt", "expected 10 pages of four letters out of -ABC each"),
        ("letters.txt", "expected 10 pages"),
        ("differs.txt", "gave answers that differ"),
    ):
        (line,) = [line for line in message.splitlines() if name in line]
        assert words in line
    found = read_answers(study, [good, *faulty, torn], skip_invalid=True)
    assert len(found.checked.errors) == 6 and list(found.checked.pages) == [next(iter(key["raters"]))]
    with pytest.raises(DataError, match="no answers are left"):
        read_answers(study, [torn], skip_invalid=True)
    with pytest.raises(DataError, match="does not exist; expected the folder that"):
        read_answers(tmp_path, [good])
    (long := tmp_path / "long.txt").write_text(good.read_text(encoding="utf-8") * 20_000, encoding="utf-8")
    with pytest.raises(DataError, match="more than 1,048,576 bytes"):
        read_answers(study, [long], skip_invalid=True)


def test_open_questions_and_repeated_codes_lose_nothing(study: Path, tmp_path: Path) -> None:
    key = key_of(study)
    first = ["ABCA"] * 8 + ["AB--", "----"]
    whole = ["ABCA"] * 8 + ["ABAA", "AB-C"]
    folder = tmp_path / "answers"
    folder.mkdir()
    write_codes(folder / "1.txt", sent(key, 0, first), sent(key, 1))
    write_codes(folder / "2.txt", sent(key, 0, whole))
    write_codes(folder / "3.txt", sent(key, 1))
    found = read_answers(study, [folder])
    rater, second = list(key["raters"])[:2]
    assert found.checked.pages == {rater: tuple(whole), second: ("ABCA",) * 10} and found.checked.errors == ()
    warnings = "\n".join(found.checked.warnings)
    assert f"rater {rater} comes more than once without contradiction" in warnings
    assert f"rater {rater}: fluency is left open on page 10" in warnings
    assert f"rater {rater}: one passage has most and least fluency on page 9; not counted" in warnings
    assert "no answers of 13 of 15 raters" in warnings
    assert (found.votes["consistency"].pages, found.votes["fluency"].pages) == (20, 18)


# -------------------------------------------------------------------------------------------------------------- votes


def papers_answers(study: Path, folder: Path, seed: int = 0) -> list[Path]:
    """Answers with the paper's counts, spread at random over the pages of a study of its size."""
    key, files = key_of(study), []
    drawn = {}
    for question, orders in PAPER.items():
        drawn[question] = [order for order, count in orders.items() for _ in range(count)]
        random.Random(f"{seed}:{question}").shuffle(drawn[question])
    for place, (rater, pages) in enumerate(key["raters"].items()):
        answers = []
        for page in pages:
            orders = [drawn[question].pop() for question in PAPER]
            ends = [(NAMES[order[0]], NAMES[order[-1]]) for order in orders]
            answers.append("".join(LETTERS[page["order"].index(system)] for pair in ends for system in pair))
        files.append(write_codes(folder / f"{rater}.txt", sent(key, place, answers)))
    return files


def test_the_papers_counts_give_the_papers_figures(study: Path, tmp_path: Path) -> None:
    found = read_answers(study, papers_answers(study, tmp_path))
    consistency, fluency = found.votes["consistency"], found.votes["fluency"]
    tuples = [
        {system: (*counts.values(),) for system, counts in question.votes.items()}
        for question in (consistency, fluency)
    ]
    assert tuples[0] == {"unedited": (16, 38, 96), "rome": (89, 44, 17), "ft-l": (45, 68, 37)}
    assert tuples[1] == {"unedited": (57, 49, 44), "rome": (40, 45, 65), "ft-l": (53, 56, 41)}
    wins = {(pair.first, pair.other): (pair.wins, pair.losses, pair.ties) for pair in consistency.pairs}
    assert wins == {
        ("rome", "ft-l"): (97, 53, 0),
        ("rome", "unedited"): (125, 25, 0),
        ("ft-l", "unedited"): (105, 45, 0),
    }
    wins = {(pair.first, pair.other): (pair.wins, pair.losses, pair.ties) for pair in fluency.pairs}
    assert wins == {("ft-l", "rome"): (86, 64, 0), ("unedited", "rome"): (89, 61, 0), ("ft-l", "unedited"): (76, 74, 0)}
    ratios = [
        pair.ratio
        for votes in (consistency, fluency)
        for pair in votes.pairs
        if {"rome", "ft-l"} == {pair.first, pair.other}
    ]
    assert [f"{ratio:.1f}" for ratio in ratios if ratio] == ["1.8", "1.3"]
    assert not found.checked.warnings and found.checked.errors == ()
    for votes in (consistency, fluency):
        assert (votes.pages, votes.cases, votes.raters) == (150, 50, 15)
        assert votes.alpha is not None and votes.alpha.low is not None and votes.alpha.high is not None
        assert votes.alpha.low < votes.alpha.value < votes.alpha.high
        assert abs(votes.alpha.value) < 0.25  # the ranks were spread at random


def test_the_tables_have_the_papers_figures(study: Path, tmp_path: Path) -> None:
    files = [str(path) for path in papers_answers(study, tmp_path)]
    for words in ([], ["--format", "markdown"]):
        shown = CliRunner().invoke(app, ["study", "read", str(study), *files, *words], catch_exceptions=False)
        lines = shown.stdout.replace("│", "|").splitlines()
        cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
        rows = {row[0]: row[1:] for row in reversed(cells) if len(row) > 3}
        assert shown.exit_code == 0 and rows["rome over ft-l"][:3] == ["97", "53", "1.8"]
        assert rows["ft-l over rome"][:3] == ["86", "64", "1.3"] and rows["rome"] == ["89", "44", "17"]
        assert "bootstrap draws over cases" in shown.stdout and "Krippendorff" in shown.stdout
    shown = CliRunner().invoke(app, ["study", "read", str(study), *files, "--json", "-q"], catch_exceptions=False)
    read = json.loads(shown.stdout)
    (pair,) = [
        pair for pair in read["questions"]["consistency"]["pairs"] if {pair["first"], pair["other"]} == {"rome", "ft-l"}
    ]
    assert (pair["wins"], pair["losses"]) == (97, 53) and pair["ratio"] == 97 / 53 and pair["p_pages"] < 0.001
    assert pair["share"]["low"] < 97 / 150 < pair["share"]["high"] and shown.stderr == ""
    assert CliRunner().invoke(app, ["study", "read", str(study), *files, "--format", "latex"]).exit_code != 0


def test_alpha_is_that_of_krippendorffs_worked_example() -> None:
    """Four observers, twelve units, values left out: his example C, ordinal 0.815 (2011, also in later editions)."""
    observers = ("12332141 2...", "12332241 25.3", ".3332342 251.", "12332441 251.")
    values = [row.replace(" ", "") for row in observers]
    units = [[float(value) for value in unit if value != "."] for unit in zip(*values, strict=True)]
    assert alpha_of(coincidences(units, (1, 2, 3, 4, 5))) == pytest.approx(0.815, abs=5e-4)


def test_alpha_is_one_for_one_mind_nothing_for_chance_and_less_for_contradiction() -> None:
    draw = random.Random(0)

    def alpha(rank: Any) -> float:
        found = count_votes(
            [Ranking(case, str(rater), rank(case, rater)) for case in range(200) for rater in range(3)], "abc"
        )
        assert found.alpha is not None
        return found.alpha.value

    own = [tuple(draw.sample((1, 2, 3), 3)) for _ in range(200)]
    assert alpha(lambda case, rater: own[case]) == 1
    assert abs(alpha(lambda case, rater: tuple(draw.sample((1, 2, 3), 3)))) < 0.06
    assert alpha(lambda case, rater: own[case] if rater else tuple(4 - rank for rank in own[case])) < 0.1
    assert count_votes([Ranking(case, "1", (1, 2, 3)) for case in range(9)], "abc").alpha is None  # one rater a case


@pytest.mark.parametrize(("wins", "losses"), [(97, 53), (125, 25), (64, 86), (0, 0), (5, 0), (3, 3), (900, 1200)])
def test_the_sign_test_is_the_exact_binomial(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_intervals_are_over_cases_not_pages() -> None:
    """Give 100 cases a rater each, then four that agree: the interval is the same."""

    def width(raters: int) -> float:
        rankings = [
            Ranking(case, str(rater), (1, 2) if case % 2 else (2, 1)) for case in range(100) for rater in range(raters)
        ]
        (pair,) = count_votes(rankings, ("one", "other")).pairs
        assert pair.share is not None and pair.share.low is not None and pair.share.high is not None
        assert pair.share.value == 0.5 and pair.p_pages == pair.p_cases == 1
        return pair.share.high - pair.share.low

    assert width(1) == width(4) == pytest.approx(2 * 1.96 * 0.05, rel=0.1)


def test_a_case_counts_once_in_the_test_over_cases_and_middles_tie() -> None:
    rankings = [Ranking.of(case, str(rater), (0, 3) if case else (3, 0), 4) for case in range(6) for rater in range(3)]
    found = count_votes(rankings, ("a", "b", "c", "d"))
    assert rankings[0].ranks == (4, 2.5, 2.5, 1) and found.votes["b"] == {"most": 0, "middle": 18, "least": 0}
    pairs = {(pair.first, pair.other): pair for pair in found.pairs}
    assert pairs["a", "d"].p_cases == sign_test(5, 1) > pairs["a", "d"].p_pages == sign_test(15, 3)
    tied = pairs["b", "c"]
    assert (tied.wins, tied.losses, tied.ties, tied.share, tied.ratio) == (0, 0, 18, None, None)


# --------------------------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if find_chromium() is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield Page(browser)


FOCUSED = "document.activeElement.id || document.activeElement.name || document.activeElement.textContent"
SHOWN = "[...document.querySelectorAll('main section')].filter((one) => one.checkVisibility()).map((one) => one.id)"


def tab_to(tab: Page, target: str) -> None:
    """Press Tab until the element of that id, name or text has the focus."""
    for _ in range(12):
        tab.key("Tab", 9)
        if tab.run(FOCUSED) == target:
            return
    raise AssertionError(f"Tab does not reach {target}, but {tab.run(FOCUSED)}")


def choose(tab: Page, group: str, letter: str) -> None:
    """Choose a passage in a group of radio buttons as a person does without a mouse."""
    tab_to(tab, group)
    if letter == "A":
        tab.key(" ", 32)
    for _ in range(LETTERS.index(letter)):
        tab.key("ArrowDown", 40)


GROUPS = ("consistency-most", "consistency-least", "fluency-most", "fluency-least")


def test_a_page_is_answered_by_keyboard_on_a_phone_and_its_file_read_back(
    build: BuildFolder, tab: Page, tmp_path: Path
) -> None:
    make(build, StudyOptions(runs=("rome", "ft-l"), unedited=True, cases=3, raters=2, pages=3, out=tmp_path / "study"))
    file = sorted((tmp_path / "study" / "pages").iterdir())[0]
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    tab.save_to(downloads)
    tab.size(360, 640, phone=True)
    tab.open(file)
    assert tab.run(SHOWN) == ["welcome"]
    tab_to(tab, "start")
    tab.key("Enter", 13)
    answers = ("ABCA", "CABC", "BCAB")
    for number, page in enumerate(answers, 1):
        assert tab.run(SHOWN) == [f"page-{number}"] and tab.run(FOCUSED) == f"title-{number}"
        assert tab.run("document.documentElement.scrollWidth") <= 360
        for group, letter in zip(GROUPS[:3], page, strict=False):
            choose(tab, f"{number}-{group}", letter)
        tab.key("Enter", 13)  # the last question is open: the page stays, says so, and leads there
        assert tab.run(SHOWN) == [f"page-{number}"] and tab.run(FOCUSED) == f"{number}-{GROUPS[3]}"
        assert "least fluent" in tab.run(f"document.querySelector('#page-{number} [role=alert]').textContent")
        if number == 2:
            tab.open(file)  # a reload loses nothing: not the answers, not the page
            assert tab.run(SHOWN) == ["page-2"] and tab.run("document.getElementById('progress').value") == 1
            assert (
                tab.run("[...document.querySelectorAll('#page-2 input:checked')].map((one) => one.value).join('')")
                == page[:3]
            )
            tab_to(tab, f"{number}-{GROUPS[3]}")
        choose_here(tab, page[3])
        tab.key("Enter", 13)
    assert tab.run(SHOWN) == ["end"] and "All 3 pages are complete" in tab.run(
        "document.getElementById('state').textContent"
    )
    tab_to(tab, "save")
    tab.key("Enter", 13)
    saved = _file_in(downloads)
    assert saved.name == f"answers-{file.stem.removeprefix('rater-')}.txt"
    assert saved.read_text().strip() == tab.run("document.getElementById('code').value")
    found = read_answers(tmp_path / "study", [saved])
    assert list(found.checked.pages.values()) == [answers]
    pasted = tmp_path / "pasted.txt"
    pasted.write_text(f"> {tab.run('document.getElementById(`code`).value')}")
    assert read_answers(tmp_path / "study", [pasted]).checked.pages == found.checked.pages
    own = [url for url in tab.requests if not url.startswith(("file:", "blob:"))]
    assert own == [] and tab.problems == []


def choose_here(tab: Page, letter: str) -> None:
    """Choose a passage in the group whose first button has the focus."""
    tab.key(" ", 32)
    for _ in range(LETTERS.index(letter)):
        tab.key("ArrowDown", 40)


def _file_in(folder: Path) -> Path:
    for _ in range(200):
        found = [path for path in folder.iterdir() if path.suffix == ".txt"]
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError("nothing was saved")


def test_most_and_least_cannot_be_one_passage_and_an_unfinished_page_can_be_sent(study: Path, tab: Page) -> None:
    file = sorted((study / "pages").iterdir())[1]
    tab.problems.clear()
    tab.open(file)
    tab.run("document.getElementById('start').click()")
    for group in GROUPS:
        tab.run(f"document.querySelector('[name=\"1-{group}\"]').click()")
    tab.run("document.querySelector('#page-1 .main').click()")
    assert tab.run(SHOWN) == ["page-1"] and tab.run(FOCUSED) == "1-consistency-least"
    assert "both most and least consistency" in tab.run("document.querySelector('#page-1 [role=alert]').textContent")
    tab.run("document.querySelector('#page-1 .end').click()")
    assert "10 of 10 pages are not complete" in tab.run("document.getElementById('state').textContent")
    code = tab.run("document.getElementById('code').value")
    assert [one.pages for one in codes_in(code, "")[0]] == [("AAAA", *["----"] * 9)]
    tab.run("document.querySelectorAll('#open-pages button')[4].click()")
    assert tab.run(SHOWN) == ["page-5"] and tab.problems == []


def test_of_two_passages_the_one_that_is_not_more_is_less(build: BuildFolder, tab: Page, tmp_path: Path) -> None:
    make(build, StudyOptions(runs=("rome", "ft-l"), cases=2, raters=1, pages=2, out=tmp_path))
    tab.open(next((tmp_path / "pages").iterdir()))
    tab.run("document.getElementById('start').click()")
    assert tab.run("document.querySelectorAll('#page-1 fieldset').length") == 2
    tab.run("document.querySelector('[name=\"1-consistency-most\"][value=B]').click()")
    tab.run("document.querySelector('[name=\"1-fluency-most\"][value=A]').click()")
    tab.run("document.querySelector('#page-1 .main').click()")
    assert tab.run(SHOWN) == ["page-2"]
    tab.run("document.querySelector('#page-2 .end').click()")
    code = tmp_path / "pasted.txt"
    code.write_text(tab.run("document.getElementById('code').value"))
    found = read_answers(tmp_path, [code])
    assert list(found.checked.pages.values()) == [("BAAB", "----")]
    first, second = key_of(tmp_path)["raters"][next(iter(found.checked.pages))][0]["order"]
    winners = {question: (votes.pairs[0].first, votes.pairs[0].other) for question, votes in found.votes.items()}
    assert winners == {"consistency": (second, first), "fluency": (first, second)}
    assert [(votes.pairs[0].wins, votes.pairs[0].losses) for votes in found.votes.values()] == [(1, 0), (1, 0)]


@pytest.mark.parametrize(("width", "scheme"), [(1200, "dark"), (360, "light"), (320, "dark")])
def test_axe_finds_no_serious_fault_on_any_screen(study: Path, tab: Page, width: int, scheme: str) -> None:
    tab.size(width, 900, phone=width < 500)
    tab.scheme(scheme)
    tab.open(sorted((study / "pages").iterdir())[2])
    for shown, then in (("welcome", "#start"), ("page-1", "#page-1 .end"), ("end", None)):
        assert tab.run(SHOWN) == [shown] and tab.run("document.documentElement.scrollWidth") <= width
        if shown == "page-1":
            tab.run("document.querySelector('#page-1 input').click()")
            tab.run("document.querySelector('#page-1 .main').click()")  # the message of a fault is seen too
        assert serious(tab) == []
        if then:
            tab.run(f"document.querySelector('{then}').click()")
    tab.run("localStorage.clear()")


def test_hostile_texts_do_nothing(build: BuildFolder, tab: Page, tmp_path: Path) -> None:
    make(build, StudyOptions(runs=("rome", "ft-l"), cases=57, raters=1, pages=57, out=tmp_path))
    tab.problems.clear()
    tab.open(next((tmp_path / "pages").iterdir()))
    assert tab.run("document.title").startswith("Reading study") and tab.problems == []
    statements = tab.run("[...document.querySelectorAll('blockquote')].map((one) => one.textContent)")
    assert any(HOSTILE[1] in one for one in statements) and any("[U+202E]" in one for one in statements)
    assert np.isfinite(tab.run("document.images.length")) and tab.run("document.images.length") == 0
