"""Scripts without spaces and from right to left: sentences, what stands before an object, and what is shown."""

from __future__ import annotations

import dataclasses

import pytest
from tiny import make

from cfbuild.data import Decision, Fact, Record, Rejection, Target, Template
from cfbuild.records.prefixes import Prefixes
from cfbuild.templates.sentences import cut_sentences
from cfbuild.text.scripts import continued, isolated, stated
from cfbuild.views.terminal import record_lines, rejection_lines

CAIRO, ROME = Target("Q85", "القاهرة"), Target("Q220", "روما")
RECORD = Record(
    0, "P36", Template("P36", "rewrite", "عاصمة {} هي", "test"), Target("Q79", "مصر"), CAIRO, ROME, (), (), (), ()
)


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        (
            "zh",
            "那天的会议改到了下午三点钟。没有人知道门一直开着！短句。",
            {"那天的会议改到了下午三点钟。", "没有人知道门一直开着！"},
        ),
        (
            "ja",
            "会議は午後の遅い時間に移された。「誰も来なかったよ。」と隣の人が言っていた。",
            {"会議は午後の遅い時間に移された。", "「誰も来なかったよ。」と隣の人が言っていた。"},
        ),
        ("ja", "ドアが開いていることに誰も気づかなかった", set()),
        ("th", "การประชุมถูกเลื่อนไปเป็นช่วงบ่าย ไม่มีใครรู้", set()),
        ("zh", "会议（改到了下午三点钟。", set()),
    ],
)
def test_sentences_of_scripts_without_spaces(code: str, text: str, found: set[str]) -> None:
    assert set(cut_sentences([text], code, 0)) == found


def test_a_sentence_without_spaces_that_names_an_object_stands_before_no_prompt() -> None:
    prefixes = Prefixes.cut(["他们昨天在北京的会议上没有说话。那天的会议改到了下午三点钟。"], "zh")
    assert not prefixes.indexed and len(prefixes.sentences) == 2
    assert prefixes.by_relation(lambda relation: ["北京"])("P36") == ("那天的会议改到了下午三点钟。",)


@pytest.mark.parametrize(
    ("prompt", "name", "text"),
    [
        ("日本の首都は", "東京", "日本の首都は東京。"),
        ("MS-DOSの開発元は", "マイクロソフト", "MS-DOSの開発元はマイクロソフト。"),
        ("iOSの開発元は", "Apple", "iOSの開発元は Apple."),
        ("法国的首都是", "巴黎", "法国的首都是巴黎。"),
        ("เมืองหลวงของประเทศไทยคือ", "กรุงเทพ", "เมืองหลวงของประเทศไทยคือกรุงเทพ."),
        ("한국의 수도는", "서울", "한국의 수도는 서울."),
        ("عاصمة مصر هي", "القاهرة", "عاصمة مصر هي القاهرة."),
        ("The employer of Ann is", "Acme Inc.", "The employer of Ann is Acme Inc.."),
    ],
)
def test_an_object_follows_as_its_script_is_written(prompt: str, name: str, text: str) -> None:
    assert stated(prompt, name) == text and text[:-1] == continued(prompt, name)


def test_a_model_reads_an_object_as_it_is_written() -> None:
    lm = make("gpt2")
    for prompt, name in (("日本の首都は", "東京"), ("The capital of Japan is", "Tokyo"), ("法国的首都是", "巴黎")):
        ids = [*lm.encode(prompt), *lm.continuation(name)]
        assert lm.tokenizer.decode(ids, skip_special_tokens=True) == continued(prompt, name)


def test_names_from_right_to_left_keep_their_direction_in_a_terminal() -> None:
    def plain(text: str, kind: str) -> str:
        return text

    lines = list(record_lines(RECORD, None, plain))
    assert lines[0] == f"case 0  P36  {isolated('مصر')} (Q79)"
    assert lines[1] == f"  true {isolated('القاهرة')} (Q85)  o* {isolated('روما')} (Q220)"
    assert f"    {isolated('عاصمة مصر هي')}" in lines
    assert isolated("مصر") == "\u2068مصر\u2069" and isolated("Kairo") == "Kairo"
    rejection = Rejection(1, Fact("P36", "Q79", "Q85"), "מצרים", "קהיר", Decision(False, "same-name"))
    (head, _) = rejection_lines(rejection, plain)
    assert head == f"case 1  P36  {isolated('מצרים')} (Q79) -> {isolated('קהיר')} (Q85)"
    latin = dataclasses.replace(RECORD, subject=Target("Q79", "Egypt\u202e"))
    assert "Egypt[U+202E]" in next(iter(record_lines(latin, None, plain)))
