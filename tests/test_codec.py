from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfbuild.data import (
    Decision,
    Entity,
    EntityPrompt,
    Fact,
    Paraphrase,
    Record,
    Reference,
    Rejection,
    Target,
    Template,
)
from cfbuild.errors import DataError
from cfbuild.store import codec, jsonl

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(1, 10**9)
ITEMS = NUMBERS.map("Q{}".format)
RELATIONS = NUMBERS.map("P{}".format)
NAMES = st.dictionaries(st.sampled_from(["en", "fr", "zh"]), TEXT)
MAYBE = st.none() | TEXT
HALF = TEXT.map(lambda text: "".join(char for char in text if char.isprintable() and char not in "{}"))
TEMPLATES = st.builds(
    lambda relation, kind, before, after, origin: Template(relation, kind, f"{before}{{}}{after}".strip(), origin),
    RELATIONS,
    st.sampled_from(["rewrite", "generation"]),
    HALF,
    HALF,
    TEXT,
)
TARGETS = st.builds(Target, ITEMS, TEXT)
ENTITY_PROMPTS = st.lists(st.builds(EntityPrompt, TEXT, ITEMS, TEXT), max_size=3).map(tuple)
MEASURED = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    relation = draw(RELATIONS)
    prompt = Template(relation, "rewrite", f"{draw(HALF)}{{}}{draw(HALF)}".strip(), draw(TEXT))
    return Record(
        case_id=draw(st.integers(0)),
        relation=relation,
        prompt=prompt,
        subject=draw(TARGETS),
        target_true=draw(TARGETS),
        target_new=draw(TARGETS),
        paraphrases=draw(st.lists(st.builds(Paraphrase, TEXT, TEXT, TEXT), max_size=3).map(tuple)),
        neighborhood=draw(ENTITY_PROMPTS),
        attribute=draw(ENTITY_PROMPTS),
        generation=draw(st.lists(TEXT, max_size=3).map(tuple)),
        language=draw(TEXT),
        source=draw(TEXT),
        scores=draw(st.dictionaries(TEXT, MEASURED, max_size=2)),
    )


VALUES = [
    (
        st.builds(
            Entity,
            ITEMS,
            NAMES,
            st.dictionaries(st.sampled_from(["en", "fr"]), st.lists(TEXT, max_size=3).map(tuple)),
            st.dictionaries(RELATIONS, st.lists(ITEMS, max_size=3).map(tuple), max_size=2),
            st.none() | st.integers(0),
        ),
        codec.encode_entity,
        codec.decode_entity,
    ),
    (
        st.builds(Fact, RELATIONS, ITEMS, ITEMS, MAYBE, MAYBE, MAYBE, TEXT),
        codec.encode_fact,
        codec.decode_fact,
    ),
    (TEMPLATES, codec.encode_template, codec.decode_template),
    (
        st.builds(Reference, RELATIONS, ITEMS, ITEMS, TEXT, TEXT, MAYBE, st.none() | NUMBERS, MAYBE, TEXT),
        codec.encode_reference,
        codec.decode_reference,
    ),
    (
        st.builds(
            Rejection,
            st.integers(0),
            st.builds(Fact, RELATIONS, ITEMS, ITEMS),
            MAYBE,
            MAYBE,
            st.builds(Decision, st.just(False), TEXT, MEASURED),
        ),
        codec.encode_rejection,
        codec.decode_rejection,
    ),
    (records(), codec.encode_record, codec.decode_record),
]


@pytest.mark.parametrize(("values", "encode", "decode"), VALUES, ids=[encode.__name__ for _, encode, _ in VALUES])
def test_a_value_comes_back_from_its_row(values: Any, encode: Any, decode: Any) -> None:
    @given(value=values)
    def check(value: Any) -> None:
        line = jsonl.dump_row(encode(value))
        assert "\n" not in line
        again = decode(jsonl.parse_row(line, "here"))
        assert again == value
        assert jsonl.dump_row(encode(again)) == line

    check()


def test_a_record_without_meta_is_a_counterfact_row() -> None:
    row = {
        "case_id": 4,
        "pararel_idx": 5,
        "requested_rewrite": {
            "prompt": "{} is in",
            "relation_id": "P17",
            "target_new": {"str": "Peru", "id": "Q419"},
            "target_true": {"str": "Chad", "id": "Q657"},
            "subject": "Bol",
        },
        "paraphrase_prompts": ["Noise. Bol lies in"],
        "neighborhood_prompts": ["Mao is in"],
        "attribute_prompts": ["Lima is in"],
        "generation_prompts": ["Bol is"],
    }
    record = codec.decode_record(row)
    assert record.rewrite == "Bol is in"
    assert [one.text for one in record.paraphrases] == ["Noise. Bol lies in"]
    again = codec.encode_record(record)
    del again["meta"]
    assert again == row


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        jsonl.dump_row({"nll": math.nan})
    with pytest.raises(DataError, match=r"here: is not JSON .*NaN"):
        jsonl.parse_row('{"nll": NaN}', "here")


def test_a_broken_row_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text('\n{"relation_id":"P17"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"facts.jsonl:2: lacks 'subject_id'"):
        list(jsonl.read_values(path, codec.decode_fact))
    path.write_text("[]\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"facts.jsonl:1: got a JSON list, expected an object"):
        list(jsonl.read_rows(path))


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    jsonl.write_jsonl(path, [{"a": 1}])

    def rows() -> Any:
        yield {"a": 2}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jsonl.write_jsonl(path, rows())
    assert path.read_text(encoding="utf-8") == '{"a":1}\n'
    assert list(tmp_path.iterdir()) == [path]
