"""Properties of any input: templates, sampling, schema, strict JSON. Those of the codec are in its own file."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planted import faults_of
from scored_build import record

from cfbuild.audit.validate import violations
from cfbuild.data import SLOT, Fact, Template
from cfbuild.errors import DataError, TemplateError
from cfbuild.lm.steps import TOP_K, pick
from cfbuild.sources.sparql import literal
from cfbuild.sources.subset import HASHES, SampleOrder, sampled
from cfbuild.store import codec, jsonl
from cfbuild.text.safe import HIDDEN, visible, visible_json

TEXT = st.text(max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(text=TEXT | st.builds(lambda a, b: f"{a}{SLOT}{b}", TEXT, TEXT), subject=TEXT)
def test_a_template_has_one_slot_and_takes_any_subject_as_it_is(text: str, subject: str) -> None:
    try:
        template = Template("P1", "rewrite", text, "")
    except TemplateError:
        plain = text.replace(SLOT, "", 1)
        assert text.count(SLOT) != 1 or set("{}") & set(plain) or not text.isprintable() or text != text.strip()
        return
    before, after = text.split(SLOT)
    assert template.fill(subject) == before + subject + after


@given(label=TEXT)
def test_any_label_comes_back_from_its_literal(label: str) -> None:
    assert json.loads(literal(label, "en").removesuffix("@en"), strict=False) == label


@given(
    pairs=st.sets(st.tuples(st.integers(1, 40), st.integers(1, 5)), max_size=60),
    limit=st.integers(1, 70),
    seed=st.integers(),
    data=st.data(),
)
def test_a_sample_is_seeded_ordered_and_keeps_subjects_whole(pairs: Any, limit: int, seed: int, data: Any) -> None:
    facts = [Fact("P1", f"Q{s}", f"Q{o}") for s, o in pairs]
    sample = sampled(facts, "P1", limit, seed)
    assert sample == sampled(data.draw(st.permutations(facts)), "P1", limit, seed)
    taken = {(int(fact.subject[1:]), int(fact.object[1:])) for fact in sample}
    assert taken <= pairs and len(sample) == len(taken) <= limit
    subjects = {subject for subject, _ in taken}
    assert taken == {pair for pair in pairs if pair[0] in subjects}
    assert sample == sorted(sample, key=lambda fact: (int(fact.subject[1:]), int(fact.object[1:])))


@given(seed=st.integers(), first=st.integers(0, HASHES - 1), width=st.integers(1, HASHES))
def test_the_ranges_of_a_sample_are_as_wide_as_asked(seed: int, first: int, width: int) -> None:
    spans = SampleOrder(seed, "P1").spans(first, first + width)
    assert sum(high - low for low, high in spans) == min(width, HASHES - first)
    assert all(0 <= low < high <= HASHES for low, high in spans)


@given(
    logits=st.lists(st.lists(st.floats(-30, 30, width=32), min_size=9, max_size=9), min_size=1, max_size=4),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=4, max_size=4),
)
def test_a_drawn_token_is_among_the_likeliest_whatever_the_other_rows(logits: Any, draws: list[float]) -> None:
    rows = torch.tensor(logits)
    numbers = torch.tensor(draws[: len(rows)], dtype=torch.float64)
    picked = pick(rows, numbers)
    assert bool((rows.gather(1, picked[:, None])[:, 0] >= rows.topk(TOP_K, dim=-1).values[:, -1]).all())
    alone = [pick(rows[i : i + 1], numbers[i : i + 1])[0] for i in range(len(rows))]
    assert torch.equal(picked, torch.stack(alone))


@given(value=JSON)
def test_json_is_read_as_it_was_written_or_refused(value: Any) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value)
        try:
            jsonl.parse_json(text, "here")
        except DataError as error:
            assert "half a character" in str(error)
        return
    assert jsonl.parse_json(text, "here") == value
    assert jsonl.parse_json(json.dumps(value), "here") == value
    assert json.loads(visible_json(text)) == value and not HIDDEN.search(visible_json(text))
    assert not HIDDEN.search(visible(text))


ROW = codec.encode_record(record(3))


@st.composite
def changed_rows(draw: st.DrawFn) -> Any:
    """Return a valid row in which something, anywhere, is something else."""
    row: Any = copy.deepcopy(ROW)
    part, keys = row, []
    while isinstance(part, dict | list) and part:
        keys.append(draw(st.sampled_from(sorted(part) if isinstance(part, dict) else range(len(part)))))
        if draw(st.booleans()):
            break
        part = part[keys[-1]]
    part = row
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = draw(JSON)
    return row


@settings(max_examples=150, deadline=None)
@example(row=ROW | {"pararel_idx": 0})
@given(row=changed_rows())
def test_what_is_valid_can_be_used_and_what_is_not_is_told_with_its_place(row: Any) -> None:
    faults = faults_of(row)
    if not faults:
        assert codec.encode_record(codec.decode_record(row)) == row
    assert all(fault.path == "" or fault.path.startswith("/") for fault in faults)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        assert {one.rule for one in violations(path)} == {fault.rule for fault in faults}
