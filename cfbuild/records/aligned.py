"""Records in several languages that ask the same: a maker of the same facts for each, and a file of records each.

The first language leads: its maker chooses o* and the neighbors, such as the others can name where there are enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, TypeVar

from cfbuild.data import Record, Rejection, Template
from cfbuild.errors import ConfigError
from cfbuild.facts.graph import NumberedFact
from cfbuild.records.factset import FactSet, StoredFacts
from cfbuild.records.maker import RecordMaker
from cfbuild.store.manifest import Manifest
from cfbuild.templates import builtin

Facts = TypeVar("Facts", FactSet, StoredFacts)


def check_languages(codes: Sequence[str]) -> None:
    """Raise ConfigError for fewer than two languages, or one that is named twice."""
    if len(codes) < 2 or len(set(codes)) < len(codes):
        raise ConfigError(f"languages {','.join(codes)}: expected at least two, each once, such as en,fr,de")


def file_in(name: str, code: str, codes: Sequence[str]) -> str:
    """Return the name of a language's file beside `name`, which is the first language's: `records.fr.jsonl`."""
    path = PurePath(name)
    return name if code == codes[0] else f"{path.stem}.{code}{path.suffix}"


def record_files(manifest: Manifest) -> dict[str, str]:
    """Return the names of a build's files of records by language, the first language's first."""
    made = manifest.entry("generate")
    codes = made.config.get("languages") or [made.config.get("language") or "en"]
    return {code: file_in("records.jsonl", code, codes) for code in codes}


def in_language(facts: Facts, code: str, fetched: str) -> Facts:
    """Return the same facts in another language: with its labels, in which they are indexed already, and its templates.

    fetched: the language of the templates in `facts`; those of any other are the bundled ones.
    Raises ConfigError for a language without templates.
    """
    if code == fetched:
        return replace(facts, language=code)
    if builtin.written_in(code) is None:
        raise ConfigError(
            f"there are no templates in {code!r}: the build's are in {fetched!r}, and the bundled ones in "
            f"{', '.join(builtin.languages())}; fetch with --language {code} and templates of your own"
        )
    return replace(facts, language=code, templates=tuple(_bundled(facts.relations, code)))


def _bundled(relations: Iterable[str], code: str) -> Iterator[Template]:
    return (one for relation in relations for one in builtin.templates(relation, code))


@dataclass
class Survivors:
    """The count of aligned records: by language, those in all languages, and what was dropped by language and rule."""

    lead: str
    records: Counter[str] = field(default_factory=Counter)
    rules: dict[str, Counter[str]] = field(default_factory=dict)
    spoken: Counter[int] = field(default_factory=Counter)

    def same(
        self, maker: RecordMaker, records: Iterable[Record], cases: Callable[[Sequence[int]], Sequence[NumberedFact]]
    ) -> Iterator[Record | Rejection]:
        """Yield what each of the first language's records is in a maker's language, and count it.

        cases: returns the facts with some case ids.
        """
        code = maker.graph.language
        self.rules[code] = Counter()
        for record in records:
            ((_, fact),) = cases([record.case_id])
            made = maker.same(record, fact)
            if isinstance(made, Record):
                self.records[code] += 1
                self.spoken[record.case_id] += 1
            else:
                self.rules[code][made.decision.rule] += 1
            yield made

    def as_dict(self, kept: int) -> Mapping[str, Any]:
        """Return the counts for a manifest; `kept` is the number of the first language's records."""
        others = len(self.rules)
        return {
            "records": {self.lead: kept, **{code: self.records[code] for code in self.rules}},
            "in_all": sum(count == others for count in self.spoken.values()),
            "rules": {code: dict(sorted(counts.items())) for code, counts in self.rules.items()},
        }
