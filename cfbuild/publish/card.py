"""The dataset card, made from the manifest: metadata in YAML for the Hub, then text, tables and commands for people."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cfbuild import __version__
from cfbuild.publish import responsible
from cfbuild.publish.columns import columns
from cfbuild.publish.stage import FULL, Table
from cfbuild.publish.tags import bcp47_tags, iso_codes
from cfbuild.records.composition import ITEMS, Composition
from cfbuild.records.spread import BELIEFS
from cfbuild.score.matrix import SHOWN, LanguageMatrix
from cfbuild.score.run_report import STAGES, Report
from cfbuild.score.table import ScoreTable, figure_text
from cfbuild.store.manifest import Manifest, VerbEntry
from cfbuild.text.safe import visible
from cfbuild.text.scripts import isolated

RECORDS_LICENCE = "cc0-1.0"
"""The licence of Wikidata's facts, and of cfbuild's own prompts around them."""
HUB_LICENCES = frozenset(
    f"cc-{terms}-{version}"
    for terms, versions in {"by": "2.0 2.5 3.0 4.0", "by-sa": "3.0 4.0", "by-nc-sa": "2.0 3.0 4.0"}.items()
    for version in versions.split()
) | {RECORDS_LICENCE, "gfdl", "odbl", "odc-by", "pddl", "mit", "apache-2.0", "unlicense"}
"""Licences that the Hub has an identifier for; it refuses a card with any other, except `other`."""
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (math.inf, "10M<n<100M"),
)
"""The Hub's size categories, each behind the first number of rows that is too large for it."""
MARKS = {ord(mark): f"&#{ord(mark)};" for mark in "&<>|`*~[]\\"}
"""Marks that could be read as Markdown or HTML, end a table's cell, or undo an escape, as entities."""
PAPER = """@inproceedings{meng2022locating,
  title = {Locating and Editing Factual Associations in {GPT}},
  author = {Meng, Kevin and Bau, David and Andonian, Alex and Belinkov, Yonatan},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022}
}"""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The commands that make the build again, each as its words without `cfbuild`, and notes on what they need."""

    commands: Sequence[Sequence[str]]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class CardInput:
    """The content of a card; `reports` are the runs' reports by name, `matrices` those across languages."""

    repository: str
    manifest: Manifest
    tables: Sequence[Table]
    composition: Composition
    reports: Mapping[str, Report]
    languages: Sequence[str]
    licences: Sequence[str]
    rebuild: Rebuild
    matrices: Mapping[str, LanguageMatrix] = field(default_factory=dict)


def make_card(given: CardInput) -> str:
    """Return the text of README.md. Raises ValueError if huggingface_hub refuses its metadata."""
    from huggingface_hub import DatasetCard, DatasetCardData

    tags = bcp47_tags(given.languages)
    licences = (licence if licence in HUB_LICENCES else "other" for licence in given.licences)
    data = DatasetCardData(
        language=iso_codes(given.languages),
        **({"language_bcp47": tags} if tags else {}),
        license=list(dict.fromkeys([RECORDS_LICENCE, *licences])),
        pretty_name=given.repository.split("/")[-1],
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        multilinguality=["monolingual" if len(given.languages) == 1 else "multilingual"],
        size_categories=[_size(given.composition.total["records"])],
        source_datasets=["original"],
        task_categories=["text-generation"],
        tags=["knowledge-editing", "model-editing", "counterfact", "wikidata", "cfbuild"],
        configs=[_config(table, place == 0) for place, table in enumerate(given.tables) if table.splits],
    )
    body = "\n\n".join(part for part in _parts(given) if part)
    return str(DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def make_citation(repository: str) -> str:
    """Return the text of a dataset's CITATION.cff. repository: its name on the Hub, OWNER/NAME."""
    authors = "\n".join(
        f"      - family-names: {last}\n        given-names: {first}"
        for first, last in (("Kevin", "Meng"), ("David", "Bau"), ("Alex", "Andonian"), ("Yonatan", "Belinkov"))
    )
    return f"""cff-version: 1.2.0
message: "If you use this dataset, please cite it, and the paper that defined its format."
title: "{repository}: counterfactual records for knowledge editing"
type: dataset
authors:
  - name: "{repository.split("/", maxsplit=1)[0]}"
license: CC0-1.0
references:
  - type: software
    title: "cfbuild"
    authors:
      - name: "The cfbuild engineers"
    version: {__version__}
  - type: conference-paper
    title: "Locating and Editing Factual Associations in GPT"
    authors:
{authors}
    year: 2022
"""


def _size(count: int) -> str:
    return next(name for limit, name in SIZES if count < limit)


def _config(table: Table, default: bool) -> dict[str, Any]:
    files = [{"split": split, "path": f"data/{table.name}/{split}-*.parquet"} for split in table.splits]
    return {"config_name": table.name, "data_files": files} | ({"default": True} if default else {})


def _parts(given: CardInput) -> Iterator[str]:
    generated = given.manifest.entry("generate")
    yield f"# {_text(given.repository.split('/')[-1])}"
    yield (
        "Counterfactual records for knowledge editing in the format of CounterFact (Meng et al. 2022), built by "
        f"cfbuild {_text(given.manifest.version)}. A record asks a language model to believe a "
        "**false** fact and holds the prompts that test whether it does, and whether it still knows everything else."
    )
    yield _loading(given)
    yield _limits(given)
    yield _counted(generated, "languages", _languages)
    yield _counted(generated, "changes", _changes)
    yield _filter(generated.config)
    yield _counted(generated, "pools", _ranks)
    yield _counted(generated, "shared_class", _classes)
    yield _composition(given.composition)
    yield _relations(given.composition, given.reports)
    yield _scores(given.reports)
    yield from (_matrix(name, matrix) for name, matrix in given.matrices.items())
    yield _dropped(generated.counted)
    yield _counted(generated, "neighbors", _neighbors)
    yield _rebuild(given.rebuild)
    yield _licences(given)
    yield f"## Citation\n\nCite this dataset by its `CITATION.cff`, and the paper:\n\n```bibtex\n{PAPER}\n```"


def _counted(generated: VerbEntry, name: str, section: Callable[[Any], str]) -> str:
    """Return the section about what `generate` counted under a name; none if it counted nothing."""
    counted = generated.counted.get(name)
    return section(counted) if counted else ""


def _loading(given: CardInput) -> str:
    rows = [(f"`{table.name}`", split, f"{table.rows[split]:,}") for table in given.tables for split in table.splits]
    about = (
        "Splits are by subject: no subject is in two of them. `records` has CounterFact's columns and `meta`; "
        f"`scores` has a row a record and run. Others have the one split `{FULL}`."
    )
    first = given.tables[0]
    address = f"hf://datasets/{given.repository}/{first.paths(first.splits[0])[0]}"
    json_texts = {table.name: columns(table.name).json_texts for table in given.tables}
    by_table = (
        f"{', '.join(f'`{column}`' for column in names)} of `{table}`" for table, names in json_texts.items() if names
    )
    how = (
        "The files are plain parquet (texts, numbers, truth values, lists, structs), which `datasets` reads from 2.14 "
        f'on, and so do pandas, polars and DuckDB, such as `pandas.read_parquet("{address}")`. '
        f"Columns of JSON text, for `json.loads`: {'; '.join(by_table)}."
    )
    code = f"""```python
import json

from datasets import load_dataset

records = load_dataset("{given.repository}", "records")
measured = json.loads(records["train"][0]["meta"]["scores"])  # by model, what the filter measured
```"""
    return f"## Use\n\n{code}\n\n{_table(('configuration', 'split', 'rows'), rows)}\n\n{about}\n\n{how}"


def _limits(given: CardInput) -> str:
    about = responsible.statement(given.manifest, given.composition)
    parts = (
        ("For what", responsible.USES),
        ("Not for", responsible.MISUSES),
        ("Biases", about.biases),
        ("Limits", responsible.LIMITATIONS),
        ("People", (*about.personal, responsible.IMPACT)),
    )
    lists = ("\n".join([f"**{title}**", "", *(f"- {_text(item)}" for item in texts)]) for title, texts in parts)
    return "## Uses and limits\n\n" + "\n\n".join(lists)


def _filter(config: Mapping[str, Any]) -> str:
    judge = config.get("model_filter")
    if not judge:
        return "## Filter\n\nNo model was asked: the false objects are the first that were drawn."
    rows = [(_text(name), _text(value)) for name, value in judge.items() if value is not None]
    table = _table(("setting", "value"), rows)
    return f"## Filter\n\nFalse objects were kept only if this model finds them unlikely.\n\n{table}"


def _languages(languages: Mapping[str, Any]) -> str:
    rows = []
    for code, count in languages["records"].items():
        rules = sorted(languages["rules"].get(code, {}).items(), key=lambda counted: (-counted[1], counted[0]))
        rows.append((_text(code), f"{count:,}", ", ".join(f"{_text(rule)} {number:,}" for rule, number in rules)))
    return (
        "## Languages\n\nThe same fact, false object, neighbors and case id in each: the first language is the "
        f"configuration `records`, each other one `records_` and its code. {languages['in_all']:,} records are there "
        f"in all.\n\n{_table(('language', 'records', 'not there, by rule'), rows)}"
    )


def _matrix(name: str, matrix: LanguageMatrix) -> str:
    parts = [
        f"### Across languages: {_text(name)}",
        f"{_text(matrix.title)}. Edited in the language of the row, asked in that of the column; times 100, mean ± "
        "half width of the 95% interval.",
    ]
    for figure in SHOWN:
        rows = [(_text(label), *map(figure_text, cells)) for label, cells in matrix.rows(figure)]
        parts.append(_table((f"{figure}, edited in", *map(_text, matrix.languages)), rows))
    return "\n\n".join(parts)


def _changes(changes: Mapping[str, Any]) -> str:
    text = (
        f"## Real changes\n\n{changes['records']:,} records are about a change in the world, as `meta.change` says: "
        "`target_true` held before it, and `target_new`, which is no false object, holds now."
    )
    rows = [(_text(model), *(f"{counts[name]:,}" for name in BELIEFS)) for model, counts in changes["believed"].items()]
    beliefs = "Before any edit, the likeliest object after the rewrite prompt is what held, what holds now, or neither:"
    return f"{text} {beliefs}\n\n{_table(('model', 'old', 'new', 'neither'), rows)}" if rows else text


def _ranks(pools: Mapping[str, Any]) -> str:
    rows = [(f"{10 * tenth} to {10 * tenth + 10}%", f"{count:,}") for tenth, count in enumerate(pools["tenths"])]
    table = _table(("rank as a share of the pool, likeliest first", "records"), rows)
    return (
        f"### Rank of the false objects\n\nEach was ranked among {pools['least']:,} to {pools['greatest']:,} objects "
        f"that could be said there, the median being {pools['median']:,}. In {pools['first_ten']:,} of "
        f"{pools['records']:,} records it is among the ten likeliest.\n\n{table}"
    )


def _classes(shared: Mapping[str, Any]) -> str:
    text = (
        f"### Class of the false objects\n\nIn {shared['sharing']:,} of {shared['records']:,} records the false object "
        "shares a class with the true one, as far as is known."
    )
    rows = [(_text(reason), f"{count:,}") for reason, count in shared["fallbacks"].items()]
    why = "Where it is not of the nearest class that any object of the relation shares, this is why:"
    return f"{text} {why}\n\n{_table(('reason', 'records'), rows)}" if rows else text


def _composition(counted: Composition) -> str:
    rows = [
        (item, f"{counted.total[item]:,}", f"{counted.per_relation[item]:,.1f}", f"{counted.per_record[item]:,.1f}")
        for item in ITEMS
    ]
    table = _table(("item", "total", "per relation", "per record"), rows)
    return f"## Composition\n\nDistinct items, in the manner of the paper's Table 2.\n\n{table}"


def _relations(counted: Composition, reports: Mapping[str, Report]) -> str:
    rows = [
        (relation, *(f"{counts[item]:,}" for item in ITEMS), *_s_cells(relation, reports))
        for relation, counts in counted.by_relation.items()
    ]
    names = [""] if len(reports) == 1 else [f" ({_text(name)})" for name in reports]
    head = ("relation", *ITEMS, *(f"S {when}{name}" for name in names for when in ("before", "after")))
    return f"### By relation\n\n{_table(head if reports else ('relation', *ITEMS), rows)}"


def _s_cells(relation: str, reports: Mapping[str, Report]) -> Iterator[str]:
    for report in reports.values():
        scores = report.by_relation.get(relation)
        for stage in STAGES:
            mean = scores.means[stage].get("S") if scores else None
            yield f"{mean:.1f}" if mean is not None else ""


def _scores(reports: Mapping[str, Report]) -> str:
    if not reports:
        return ""
    table = ScoreTable.of(reports)
    rows = [
        (*map(_text, table.labels(row)), *(_text(row.cell(name).signed) for name in table.columns))
        for row in table.rows
    ]
    notes = [*map(_text, table.remarks), *_faults(reports)]
    signatures = "\n".join(f"{name}: {_line(report.signature)}".replace("`", "'") for name, report in reports.items())
    parts = (
        "## Scores",
        f"{', '.join(map(_text, table.models))}: times 100, mean ± half width of the 95% interval. The unedited model "
        "comes first; each run is scored after its edits.",
        _table((*table.heads, *table.columns), rows),
        *notes,
        f"Signature of each run:\n\n```text\n{signatures}\n```",
    )
    return "\n\n".join(parts)


def _faults(reports: Mapping[str, Report]) -> Iterator[str]:
    for name, report in reports.items():
        where = f" in the run {_text(name)}" if len(reports) > 1 else ""
        for reason, count in report.faults.items():
            yield f"{count:,} records have no edit{where}: {_text(reason)}."


def _dropped(generated: Mapping[str, Any]) -> str:
    rules = generated.get("by_rule")
    if rules is None:
        return ""
    rows = [(_text(rule), f"{count:,}") for rule, count in sorted(rules.items(), key=lambda item: (-item[1], item[0]))]
    total = f"Of {generated['facts']:,} facts {generated['kept']:,} became records; these rules dropped the others."
    return f"## Dropped by rule\n\n{total}\n\n{_table(('rule', 'facts'), rows)}"


def _neighbors(counted: Mapping[str, Mapping[str, int]]) -> str:
    rows = [(number, f"{counts['records']:,}", f"{counts['dropped']:,}") for number, counts in counted.items()]
    table = _table(("neighborhood prompts", "records", "facts dropped for it"), rows)
    return f"### By number of neighborhood prompts\n\n{table}"


def _rebuild(given: Rebuild) -> str:
    shown = "\n".join(
        [
            *(shlex.join(["cfbuild", *(visible(word) for word in command)]) for command in given.commands),
            *(f"# {_line(note)}" for note in given.notes),
        ]
    )
    # Longer than any run of backticks in a name, so that no name ends the block.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", shown)), default=0))
    return (
        f"## Rebuild\n\nWith cfbuild {__version__}; `manifest.json` has every setting and the digest of every file.\n\n"
        f"{fence}sh\n{shown}\n{fence}"
    )


def _licences(given: CardInput) -> str:
    text = "## Licence\n\nRecords, rejects and scores are CC0-1.0: their facts are Wikidata's."
    if "pararel" in given.manifest.entry("fetch").config.get("templates", ()):
        text += " Templates are in part ParaRel's, under the MIT licence."
    if not given.licences:
        return text
    names = ", ".join(map(_text, given.licences))
    return f"{text} Reference texts are a configuration of their own, because each row names its licence: {names}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _line(value: object) -> str:
    """Return a value on a single line, its control characters visible, its writing direction kept from the rest."""
    return isolated(visible(" ".join(str(value).split())))


def _text(value: object) -> str:
    """Return a value as text without markup: its MARKS become entities."""
    return _line(value).translate(MARKS)
