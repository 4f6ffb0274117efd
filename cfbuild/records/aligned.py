"""Records in several languages that ask the same: a maker of the same facts and a file of records for each language.

The first language's maker chooses o* and the neighbors. It prefers those that have a name in all languages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, TypeVar

from cfbuild.data import Record, Rejection
from cfbuild.errors import ConfigError
from cfbuild.facts.graph import NumberedFact
from cfbuild.records.factset import FactSet, StoredFacts
from cfbuild.records.maker import RecordMaker
from cfbuild.store.manifest import Manifest
from cfbuild.templates import builtin

Facts = TypeVar("Facts", FactSet, StoredFacts)


def check_languages(languages: Sequence[str]) -> None:
    """Raise ConfigError for fewer than two languages, or one that is named twice."""
    if len(languages) < 2 or len(set(languages)) < len(languages):
        raise ConfigError(f"languages {','.join(languages)}: expected at least two, each once, such as en,fr,de")


def file_in(name: str, language: str, languages: Sequence[str]) -> str:
    """Return the name of a language's file: `name` for the first of `languages`, else such as `records.fr.jsonl`."""
    path = PurePath(name)
    return name if language == languages[0] else f"{path.stem}.{language}{path.suffix}"


def record_files(manifest: Manifest) -> dict[str, str]:
    """Return the names of a build's files of records by language, the first language's first."""
    config = manifest.entry("generate").config
    languages = config.get("languages") or [config.get("language") or "en"]
    return {language: file_in("records.jsonl", language, languages) for language in languages}


def in_language(facts: Facts, language: str, fetched: str) -> Facts:
    """Return the same facts with the labels of another language, in which they are indexed already, and its templates.

    fetched: the language of the templates in `facts`; for any other the bundled templates are taken.
    Raises ConfigError for a language without templates.
    """
    if language == fetched:
        return replace(facts, language=language)
    if builtin.written_in(language) is None:
        raise ConfigError(
            f"there are no templates in {language!r}: the build's are in {fetched!r}, and the bundled ones in "
            f"{', '.join(builtin.languages())}; fetch with --language {language} and templates of your own"
        )
    templates = (one for relation in facts.relations for one in builtin.templates(relation, language))
    return replace(facts, language=language, templates=tuple(templates))


@dataclass
class AlignedCounts:
    """The counts of aligned records beside those of the first language, `lead`.

    records: the number of records by language. rules: the number of rejections by language and rule.
    languages: the number of other languages that have a record, by its case id.
    """

    lead: str
    records: Counter[str] = field(default_factory=Counter)
    rules: dict[str, Counter[str]] = field(default_factory=dict)
    languages: Counter[int] = field(default_factory=Counter)

    def same(
        self, maker: RecordMaker, records: Iterable[Record], cases: Callable[[Sequence[int]], Sequence[NumberedFact]]
    ) -> Iterator[Record | Rejection]:
        """Yield each record in a maker's language, or its rejection there (`RecordMaker.same`), and count it.

        records: those of the first language. cases: `RecordMaker.cases` of the first language's maker.
        """
        language = maker.graph.language
        self.rules[language] = Counter()
        for record in records:
            ((_, fact),) = cases([record.case_id])
            made = maker.same(record, fact)
            if isinstance(made, Record):
                self.records[language] += 1
                self.languages[record.case_id] += 1
            else:
                self.rules[language][made.decision.rule] += 1
            yield made

    def as_dict(self, kept: int) -> Mapping[str, Any]:
        """Return the counts for a manifest; `kept` is the number of the first language's records."""
        others = len(self.rules)
        return {
            "records": {self.lead: kept, **{language: self.records[language] for language in self.rules}},
            "in_all": sum(count == others for count in self.languages.values()),
            "rules": {language: dict(sorted(counts.items())) for language, counts in self.rules.items()},
        }
