"""Records in every language that has templates, made of a small graph with labels in it, and audited by its rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planted import faults_of
from small_world import write_excerpt

from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.row import parts_of
from cfbuild.audit.rulebook import faults_in
from cfbuild.data import Entity, Fact
from cfbuild.filter.context import Rules
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.pipeline.generate import GenerateOptions, generate
from cfbuild.records.draft import BuildOptions
from cfbuild.records.factset import FactSet
from cfbuild.records.maker import RecordMaker
from cfbuild.store.codec import encode_record
from cfbuild.store.folder import BuildFolder
from cfbuild.templates import builtin

CITIES, COUNTRIES, LANGUAGES, TRADES = "P19 P20 P36 P159", "P17 P27 P495", "P37 P103 P1412", "P106"
CLASSES = {CITIES: "Q515", COUNTRIES: "Q6256", LANGUAGES: "Q34770", TRADES: "Q28640", "P176": "Q4830453"}
"""The relations of the templates by what their objects are, and the class of these."""
COMPANIES = "Toyota Fiat Nokia Boeing"

WORLD: dict[str, tuple[str, ...]] = {
    "fr": (
        "Paris Rome Oslo Lima",
        "France Italie Norvège Pérou",
        "français italien norvégien espagnol",
        "acteur peintre poète chimiste",
    ),
    "de": (
        "Paris Rom Oslo Lima",
        "Frankreich Italien Norwegen Peru",
        "Französisch Italienisch Norwegisch Spanisch",
        "Schauspieler Maler Dichter Chemiker",
    ),
    "es": (
        "París Roma Oslo Lima",
        "Francia Italia Noruega Perú",
        "francés italiano noruego español",
        "actor pintor poeta químico",
    ),
    "it": (
        "Parigi Roma Oslo Lima",
        "Francia Italia Norvegia Perù",
        "francese italiano norvegese spagnolo",
        "attore pittore poeta chimico",
    ),
    "pt": (
        "Paris Roma Oslo Lima",
        "França Itália Noruega Peru",
        "francês italiano norueguês espanhol",
        "ator pintor poeta químico",
    ),
    "nl": (
        "Parijs Rome Oslo Lima",
        "Frankrijk Italië Noorwegen Peru",
        "Frans Italiaans Noors Spaans",
        "acteur schilder dichter scheikundige",
    ),
    "pl": (
        "Paryż Rzym Oslo Lima",
        "Francja Włochy Norwegia Peru",
        "francuski włoski norweski hiszpański",
        "aktor malarz poeta chemik",
    ),
    "ru": (
        "Париж Рим Осло Лима",
        "Франция Италия Норвегия Перу",
        "французский итальянский норвежский испанский",
        "актёр художник поэт химик",
        "Тойота Фиат Нокиа Боинг",
    ),
    "tr": (
        "Paris Roma Oslo Lima",
        "Fransa İtalya Norveç Peru",
        "Fransızca İtalyanca Norveççe İspanyolca",
        "oyuncu ressam şair kimyager",
    ),
    "ja": (
        "パリ ローマ オスロ リマ",
        "フランス イタリア ノルウェー ペルー",
        "フランス語 イタリア語 ノルウェー語 スペイン語",
        "俳優 画家 詩人 化学者",
        "トヨタ フィアット ノキア ボーイング",
    ),
    "zh": (
        "巴黎 罗马 奥斯陆 利马",
        "法国 意大利 挪威 秘鲁",
        "法语 意大利语 挪威语 西班牙语",
        "演员 画家 诗人 化学家",
        "丰田 菲亚特 诺基亚 波音",
    ),
    "ar": (
        "باريس روما أوسلو ليما",
        "فرنسا إيطاليا النرويج بيرو",
        "الفرنسية الإيطالية النرويجية الإسبانية",
        "ممثل رسام شاعر كيميائي",
        "تويوتا فيات نوكيا بوينغ",
    ),
    "hi": (
        "पेरिस रोम ओस्लो लीमा",
        "फ़्रांस इटली नॉर्वे पेरू",
        "फ़्रांसीसी इतालवी नॉर्वेजियाई स्पेनी",
        "अभिनेता चित्रकार कवि रसायनज्ञ",
        "टोयोटा फ़िएट नोकिया बोइंग",
    ),
    "sw": (
        "Paris Roma Oslo Lima",
        "Ufaransa Italia Norwei Peru",
        "Kifaransa Kiitalia Kinorwei Kihispania",
        "mwigizaji mchoraji mshairi mkemia",
    ),
    "id": (
        "Paris Roma Oslo Lima",
        "Prancis Italia Norwegia Peru",
        "Prancis Italia Norwegia Spanyol",
        "aktor pelukis penyair kimiawan",
    ),
}
"""Four objects of each kind in each language, in the order of CLASSES; companies where they have other names."""
SUBJECTS = {
    "ru": "АБВГДЕЖЗИКЛМ",
    "ja": "アカサタナハマヤワガザダ",
    "zh": "安白陈丁范高何金李马牛潘",
    "ar": "ابتجحدرسعفقم",
    "hi": "अकगचजतदनपबमर",
}
"""Letters that the made names begin with; Latin ones for other languages."""


def name_of(code: str, number: int) -> str:
    """Return a made name, another for each number, in the script of a language."""
    letters = SUBJECTS.get(code, "BCDFGHJKLNPT")
    first, second = letters[number % 12], letters[number // 12 % 12]
    ends = {"ru": "ерим", "ja": "ネコト", "zh": "文华", "ar": "وديم", "hi": "ौहान"}
    end = ends.get(code, "ureq")
    return f"{first}{end}{'・' if code == 'ja' else '·' if code == 'zh' else ' '}{second}{end}"


def small_graph(code: str) -> FactSet:
    """Return twelve subjects with each of four objects, of every relation that has templates; names in `code` alone."""
    facts, entities = [], {}
    for place, (relations, kind) in enumerate(CLASSES.items()):
        names = (*WORLD[code], COMPANIES)[place].split()
        ids = [f"Q{1000 + 10 * place + number}" for number in range(4)]
        entities |= {
            item: Entity(item, {code: name}, attributes={"P31": (kind,)}) for item, name in zip(ids, names, strict=True)
        }
        facts += [
            Fact(relation, f"Q{2000 + number}", ids[number // 12])
            for relation in relations.split()
            for number in range(48)
        ]
    for number in range(48):
        entities[f"Q{2000 + number}"] = Entity(f"Q{2000 + number}", {code: name_of(code, number)})
    written = tuple(one for relation in builtin.relations(code) for one in builtin.templates(relation, code))
    return FactSet(tuple(facts), tuple(entities.values()), written, code)


@pytest.mark.parametrize("code", WORLD)
def test_a_small_graph_gives_records_that_the_languages_rules_find_nothing_wrong_with(code: str) -> None:
    known = small_graph(code)
    maker = RecordMaker(known, Rules(min_neighbors=10), BuildOptions(max_draws=3), groups=("specificity_plus",))
    records, rejected = maker.make(per_relation=4)
    relations = {fact.relation for fact in known.facts}
    assert {record.relation for record in records} == relations and len(relations) == 12
    assert len(records) == 4 * len(relations), [one.decision for one in rejected]
    for record in records:
        row = encode_record(record)
        parts = parts_of(row)
        assert faults_of(row) == [] and parts is not None and parts.language == code
        assert faults_in(parts, AuditContext()) == []
        assert (
            len(record.neighborhood) == 10
            and record.shared_class is not None
            and record.shared_class.id in CLASSES.values()
        )


def test_every_language_with_templates_has_a_graph() -> None:
    assert set(WORLD) == set(builtin.languages()) - {"en"}


@pytest.mark.long
@pytest.mark.parametrize("code", ["fr", "de", "es"])
def test_the_excerpt_gives_three_hundred_records_without_a_fault(code: str, excerpt: Path, tmp_path: Path) -> None:
    folder = BuildFolder(write_excerpt(tmp_path / code, excerpt, language=code))
    summary = generate(folder, GenerateOptions(language=code, prefixes="none", limit=400))
    rows = [json.loads(line) for line in folder.path("records.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 400 and summary.kept == 400
    assert {row["meta"]["language"] for row in rows} == {code}
    assert len({row["requested_rewrite"]["relation_id"] for row in rows}) > 15
    found = audit(AuditOptions(file=folder.path("records.jsonl"), build=folder))
    assert found.rows == 400 and found.faulty == 0
