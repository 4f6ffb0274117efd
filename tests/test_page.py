"""report.html: its bytes, and in a real Chromium what is seen, searched, typed and asked of the network."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import Page, chromium, find_chromium, serious
from scored_build import HOSTILE, record, records, write_run, write_scored

from cfbuild.errors import BuildStateError
from cfbuild.pipeline.report import report
from cfbuild.records.composition import Tally
from cfbuild.store.codec import encode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_rows, write_json, write_jsonl
from cfbuild.store.runs import new_run
from cfbuild.views.page.blocks import to_json

OPENS_IN_S = 3.0
FILTERS_IN_MS = 100.0
SLACK = 5
"""The machine may be busy: this catches work that grows with the square of the rows, not a slow minute."""
TYPE = """(async (word) => {
  const box = document.getElementById('search');
  box.value = word;
  const start = performance.now();
  box.dispatchEvent(new Event('input'));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return [performance.now() - start, document.getElementById('count').textContent,
          [...document.querySelectorAll('.open')].map((one) => one.textContent)];
})(%s)"""
OPEN_ROW = """(async (place) => {
  document.querySelectorAll('.open')[place].click();
  while (!document.querySelector('.details h4')) await new Promise((done) => setTimeout(done, 5));
  return document.querySelector('.details').textContent;
})(%d)"""


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    folder = write_scored(tmp_path_factory.mktemp("page") / "build", records(70, hostile=True))
    report(folder)
    return folder


RUNS = ("rome", "emmet", "ft")
IN_USE = {"in_use_rewrite": 1.0, "in_use_paraphrase": None}
CHOOSE = """((value) => { const box = document.getElementById('run'); box.value = value;
  box.dispatchEvent(new Event('change')); })(%d)"""
SEEN = "[...document.querySelectorAll('%s')].filter((one) => one.checkVisibility()).map((one) => one.textContent)"


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> BuildFolder:
    """Return a build whose records three runs scored."""
    folder = write_scored(tmp_path_factory.mktemp("page") / "compared", records(70), runs=RUNS)
    report(folder)
    return folder


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if find_chromium() is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield Page(browser)


@pytest.fixture
def page(build: BuildFolder, tab: Page) -> Page:
    """Return the report, loaded anew: no row is open, nothing is searched for."""
    tab.size(1200, 900)
    tab.scheme("light")
    tab.requests.clear()
    tab.problems.clear()
    tab.open(build.path("report.html"))
    return tab


@pytest.fixture
def compared_page(compared: BuildFolder, page: Page) -> Page:
    """Return the report of three runs, loaded anew."""
    page.open(compared.path("report.html"))
    page.run("document.getElementById('run').value")
    return page


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_page_is_one_file_without_references(build: BuildFolder) -> None:
    text = build.path("report.html").read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(text)
    assert {tag for tag, _ in tags.seen}.isdisjoint({"img", "link", "iframe", "object", "base"})
    for tag, attributes in tags.seen:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes
    assert "default-src 'none'" in text and "\u202e" not in text and "\x1b" not in text


def test_the_same_build_gives_the_same_bytes(build: BuildFolder) -> None:
    before = build.path("report.html").read_bytes()
    assert report(build).page.read_bytes() == before


def test_json_in_a_script_cannot_end_it() -> None:
    given = {"a": "</script><!--<script>&amp;"}
    text = to_json(given)
    assert "<" not in text and json.loads(text) == given


def test_a_build_without_scores_has_a_page_too(tmp_path: Path) -> None:
    text = report(write_scored(tmp_path / "b", records(3), scored=False)).page.read_text(encoding="utf-8")
    assert "Scores before and after" not in text and "Composition" in text and "Why facts were dropped" in text


def test_scores_of_another_file_are_refused_and_named(tmp_path: Path) -> None:
    folder = write_scored(tmp_path / "b", records(3))
    other_file = tmp_path / "other.json"
    write_json(other_file, [encode_record(record(1))])
    with pytest.raises(BuildStateError, match="is not the file that was scored"):
        report(folder, other_file)


def test_an_earlier_builds_page_is_the_same_to_the_byte(build: BuildFolder, tmp_path: Path) -> None:
    earlier = write_scored(tmp_path / "b", records(70, hostile=True), earlier=True)
    assert earlier.path("report.json").is_file() and not earlier.path("runs").exists()
    assert report(earlier).page.read_bytes() == build.path("report.html").read_bytes()


def test_a_run_of_another_file_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write_scored(tmp_path / "b", records(3))
    own = folder.path("records.jsonl").read_bytes()
    write_json(folder.path("records.jsonl"), [encode_record(record(7))])
    write_run(new_run(folder, "elsewhere"), [record(7)], "ft")
    scored_file = folder.path("records.jsonl").rename(tmp_path / "other.json")
    folder.path("records.jsonl").write_bytes(own)
    made = report(folder)
    assert made.left_out == ("elsewhere",) and [row.run for row in made.table.rows] == [None, "rome"]
    assert "Left out, for another file was scored: <bdi>elsewhere</bdi>" in made.page.read_text(encoding="utf-8")
    assert report(folder, scored_file).left_out == ("rome",)


def test_the_table_has_a_row_a_run_below_the_unedited_model(compared: BuildFolder) -> None:
    text = compared.path("report.html").read_text(encoding="utf-8")
    table = text[text.index('class="figures runs"') :]
    table = table[: table.index("</table>")]
    assert re.findall(r'<th scope="row"><bdi>(.*?)</bdi>', table) == ["unedited", "emmet", "ft", "rome"]
    for name in RUNS:
        figures = json.loads(compared.path(f"runs/{name}/report.json").read_text())["figures"]["post"]
        row = table[table.index(f'data-row="{name}"') :].split("</tr>")[0]
        for figure in figures.values():
            cell = f"{figure['mean']:.1f} <small>± {figure['half_width_95']:.1f}</small>".replace("-", "−")
            assert cell in row


def test_what_runs_share_is_on_the_page_once(compared: BuildFolder) -> None:
    text = compared.path("report.html").read_text(encoding="utf-8")
    packed = re.findall(r'class="block">(.*?)</script>', text)
    rows = [row for block in packed for row in json.loads(gzip.decompress(base64.b64decode(block)))]
    assert len(packed) == 2 * (1 + len(RUNS)) and len(rows) == 70 * (1 + len(RUNS))
    assert [i for i, row in enumerate(rows) if "prompts" in row] == list(range(70))
    assert all({"pre", "post", "texts", "edit"} == row.keys() for row in rows[70:])


def test_a_page_of_one_run_has_nothing_to_switch(build: BuildFolder) -> None:
    text = build.path("report.html").read_text(encoding="utf-8")
    assert 'id="run"' not in text and " hidden>" not in text


def test_a_page_of_more_records_than_it_lists_has_a_sample_of_them(
    build: BuildFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is a sample" not in build.path("report.html").read_text(encoding="utf-8")
    monkeypatch.setattr("cfbuild.views.page.shown.MOST_LISTED", 4)
    folder = write_scored(tmp_path / "build", records(10))
    report(folder)
    text = folder.path("report.html").read_text(encoding="utf-8")
    assert "a sample of 4 of 10 records" in text and "10 records</title>" in text
    (index,) = re.findall(r'<script[^>]*id="index"[^>]*>(.*?)</script>', text, flags=re.DOTALL)
    case_ids = [row["case_id"] for _, row in read_rows(folder.path("records.jsonl"))]
    assert json.loads(index)["case"] == [case_ids[place] for place in (0, 2, 5, 7)]
    packed = re.findall(r'<script[^>]*class="block"[^>]*>(.*?)</script>', text, flags=re.DOTALL)
    assert all(len(json.loads(gzip.decompress(base64.b64decode(block)))) == 4 for block in packed) and packed


def test_composition_counts_distinct_items() -> None:
    tally = Tally()
    for counted_record in (record(0), record(4, entity=0), record(1)):
        tally.add(counted_record)
    counted = tally.composition()
    assert counted.total["records"] == 3 and counted.total["subjects"] == 2
    assert list(counted.by_relation) == ["P19", "P36"]
    assert counted.by_relation["P19"]["records"] == 2 and counted.per_relation["records"] == 1.5


def test_nothing_leaves_the_page_and_nothing_fails(page: Page, build: BuildFolder) -> None:
    assert page.requests == [build.path("report.html").as_uri()]
    assert page.problems == []
    assert page.run("document.querySelectorAll('figure svg').length") == 6


def test_hostile_names_are_text(page: Page) -> None:
    _, count, shown = page.run(TYPE % '""')
    assert count == "70 records" and len(shown) == 50
    assert shown[0] == HOSTILE[0] and shown[1] == HOSTILE[1] and shown[7] == HOSTILE[7]
    assert shown[2] == "abc[U+202E]txt.exe[U+202C]"
    assert shown[3].startswith("[U+001B][31mred") and shown[5] == HOSTILE[5]
    for place in range(8):
        text = page.run(OPEN_ROW % place)
        assert shown[place] in text
        page.run(f"document.querySelectorAll('.open')[{place}].click()")
    assert page.run("document.title").startswith("cfbuild report:")
    assert page.run("document.querySelectorAll('img, script:not(#index):not(.columns):not(.block)').length") == 1


def test_a_record_opens_to_its_prompts_probabilities_and_texts(page: Page, build: BuildFolder) -> None:
    page.run(TYPE % '"9"')
    name = page.run("document.querySelector('.open').textContent")
    text = page.run(OPEN_ROW % 0)
    for part in (
        "Rewrite prompt",
        "Paraphrase prompts",
        "Neighborhood prompts",
        "Attribute prompts",
        "Generated texts",
    ):
        assert part in text
    marks = page.run(
        "[...document.querySelectorAll('.details mark')].map((one) => one.className + ':' + one.textContent)"
    )
    assert f"subject:{name}" in marks and {mark.split(":")[0] for mark in marks} == {"subject", "true", "new"}
    assert page.run("document.querySelectorAll('.details .prompts tbody tr').length") == 23
    page.run("document.querySelector('.open').click()")


def _cases(folder: BuildFolder, run: str) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(folder.path(f"runs/{run}/cases.jsonl"))]


def test_the_switch_changes_scores_plots_and_records(compared_page: Page, compared: BuildFolder) -> None:
    page, seen = compared_page, []
    for place, name in enumerate(sorted(RUNS)):
        page.run(CHOOSE % place)
        assert page.run("document.querySelectorAll('.details').length") == bool(place)  # an open record stays open
        if place == 0:
            page.run(OPEN_ROW % 3)
        page.run("new Promise((done) => setTimeout(done, 200))")
        case = _cases(compared, name)[3]
        new = case["post"]["rewrite_prompts"][0]["target_new_nll"]
        shown = page.run("document.querySelector('.details .prompts tbody td:nth-child(3)').textContent")
        assert float(shown.split("%")[0].strip("<")) == pytest.approx(100 * math.exp(-new), abs=0.06)
        post = json.loads(compared.path(f"runs/{name}/report.json").read_text())["figures"]["post"]["ES"]
        assert [
            row for row in page.run(SEEN % ".headline tr") if row.startswith("ES") and f"{post['mean']:.1f} ±" in row
        ]
        assert page.run(SEEN % ".runs .shown th") == [name] and len(page.run(SEEN % ".headline")) == 1
        assert len(page.run(SEEN % "figure")) == 6
        seen.append((page.run(SEEN % "figcaption"), page.run("document.getElementById('rows').textContent")))
    assert len({str(one) for one in seen}) == 3 and page.problems == []
    assert page.run(TYPE % '""')[1] == "70 records"


SIDE = """(async () => {
  const fold = document.querySelector('.details .side');
  fold.open = true;
  while (!fold.querySelector('.compared')) await new Promise((done) => setTimeout(done, 5));
  return [...fold.querySelectorAll('.compared')].map((one) => [one.caption.textContent,
    [...one.rows].map((row) => [row.cells[0].textContent, row.cells[1].textContent])]);
})()"""


def test_a_record_shows_the_texts_of_all_runs_side_by_side(compared_page: Page, compared: BuildFolder) -> None:
    page = compared_page
    page.run(OPEN_ROW % 3)
    assert page.run("document.querySelectorAll('.details .compared').length") == 0  # only what is asked for is unpacked
    shown = page.run(SIDE)
    cases = {name: _cases(compared, name)[3] for name in sorted(RUNS)}
    written = [row for _, row in read_rows(compared.path("records.jsonl"))][3]
    assert [title for title, _ in shown] == [f"Text from: {prompt}" for prompt in written["generation_prompts"]]
    for place, (_, rows) in enumerate(shown):
        texts = {name: case["post"]["generations"][place] for name, case in cases.items()}
        assert rows == [["unedited", cases["rome"]["pre"]["generations"][place]], *map(list, texts.items())]
    request = page.run("document.querySelector('.details .side p').textContent")
    rewrite = written["requested_rewrite"]
    assert request == f"Request: {rewrite['prompt'].format(rewrite['subject'])} → {rewrite['target_new']['str']}"
    for width in (1200, 360):
        page.size(width, 900, phone=width < 500)
        assert page.run("document.documentElement.scrollWidth") <= width
        assert serious(page) == []
    assert page.problems == []


def test_answers_in_use_are_beside_the_prompts_and_the_runs_beside_each_other(tab: Page, tmp_path: Path) -> None:
    folder = write_scored(tmp_path / "b", records(3), runs=("rome", "ft"))
    for name in ("rome", "ft"):
        path = folder.path(f"runs/{name}/cases.jsonl")
        rows = [row for _, row in read_rows(path)]
        for row in rows:
            for stage in ("pre", "post"):
                if row[stage] is not None:
                    row[stage] |= {"rewrite_answers": [f"{stage} {name}"], "paraphrase_answers": [], **IN_USE}
        write_jsonl(path, rows)
    tab.problems.clear()
    tab.open(report(folder).page)
    assert "Answers in use" in tab.run(OPEN_ROW % 0)
    cells = "[...document.querySelectorAll('.details .answers td')].map((one) => one.textContent)"
    assert tab.run(cells)[1:] == ["pre ft", "post ft"]
    first = tab.run(SIDE)[0]
    assert first[0].startswith("Answer to: ")
    assert first[1] == [["unedited", "pre ft"], ["ft", "post ft"], ["rome", "post rome"]] and tab.problems == []


def test_the_keyboard_alone_chooses_a_run(compared_page: Page) -> None:
    compared_page.run("document.getElementById('run').focus()")
    compared_page.key("ArrowDown", 40)
    assert compared_page.run(SEEN % ".runs .shown th") == ["ft"]
    assert compared_page.run("document.getElementById('run').selectedOptions[0].textContent") == "ft"


@pytest.mark.parametrize(("width", "scheme"), [(1200, "dark"), (360, "light")])
def test_a_page_of_runs_fits_and_axe_finds_no_serious_fault(compared_page: Page, width: int, scheme: str) -> None:
    compared_page.run(CHOOSE % 1)
    _unfold(compared_page, width, scheme)
    assert compared_page.run("document.documentElement.scrollWidth") <= width
    assert serious(compared_page) == []


def test_records_are_filtered_and_ordered(page: Page) -> None:
    page.run(TYPE % '""')
    count = """((id, value) => { const box = document.getElementById(id); box.value = value;
        box.dispatchEvent(new Event('change')); return document.getElementById('count').textContent; })"""
    assert page.run(f"{count}('relation', 'P36')") == "18 of 70 records"
    assert page.run(f"{count}('relation', '')") == "70 records"
    assert page.run(f"{count}('outcome', 'fault')") == "3 of 70 records"
    assert page.run(f"{count}('outcome', '')") == "70 records"
    page.run(f"{count}('order', 'NS_post')")
    cells = page.run("[...document.querySelectorAll('td[data-label=NS]')].map((one) => one.textContent)")
    shown = [float(cell.split(" ")[2]) for cell in cells if not cell.endswith("–")]
    assert shown == sorted(shown)
    page.run(f"{count}('order', 'case')")


def test_the_keyboard_alone_opens_a_record(page: Page) -> None:
    page.run(TYPE % '""')
    page.run("document.getElementById('order').focus()")
    page.key("Tab", 9)
    assert page.run("document.activeElement.className") == "open"
    page.key("Enter", 13)
    assert page.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.key("Enter", 13)
    assert page.run("document.querySelectorAll('.details').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_fits_the_width(page: Page, width: int, scheme: str) -> None:
    _unfold(page, width, scheme)
    assert page.run("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_axe_finds_no_serious_fault(page: Page, width: int, scheme: str) -> None:
    _unfold(page, width, scheme)
    assert serious(page) == []


def _unfold(page: Page, width: int, scheme: str) -> None:
    page.size(width, 900, phone=width < 500)
    page.scheme(scheme)
    page.run(OPEN_ROW % 9)
    page.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")


@pytest.mark.long
def test_twenty_thousand_records_open_and_filter_at_once(tmp_path: Path) -> None:
    if find_chromium() is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    folder = write_scored(tmp_path / "many", records(20_000))
    write_run(new_run(folder, "ft"), records(500), "ft")
    path = report(folder).page
    with chromium(tmp_path / "profile") as browser:
        tab = Page(browser)
        tab.open(path)
        took = tab.run("performance.timing.loadEventEnd - performance.timing.navigationStart")
        assert took < SLACK * 1000 * OPENS_IN_S
        for word in ("chen 19", "edda", ""):
            assert min(tab.run(TYPE % json.dumps(word))[0] for _ in range(5)) < SLACK * FILTERS_IN_MS
        assert tab.run(TYPE % '"chen 19999"')[1].endswith("20,000 records")
        tab.run(OPEN_ROW % 0)
        tab.run(TYPE % '""')
        start = "const start = performance.now();"
        assert tab.run(f"(() => {{ {start} {CHOOSE % 1}; return performance.now() - start; }})()") < SLACK * 1000
