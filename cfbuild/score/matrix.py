"""Scores of edits in one language by the language of the prompts: what matrix.json holds. No model is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cfbuild.data import CaseScore
from cfbuild.errors import DataError
from cfbuild.score.metrics import HARMONIC, Figure, aggregate, figures_as_dict, figures_of, rounded
from cfbuild.score.run_report import signature_string
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import read_json
from cfbuild.store.runs import NAME, RUNS, Run

VERB = "across"
MATRIX = "matrix.json"
SHOWN = HARMONIC
"""The figures of a matrix: ES, PS and NS."""
UNEDITED = "unedited"
"""The word for the row of the model before any edit."""
CellFigures = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class LanguageMatrix:
    """ES, PS and NS of the same edits, times 100, by the language of the edit and that of the prompts.

    `languages` are both, in the build's order; `cases` is the number of records, which are there in all of them.
    `before` holds the figures of the unedited model by the prompts' language, `after` those after the edits by the
    edit's language, then the prompts'. `faulty` is the number of records without an edit by the edit's language.
    """

    signature: str
    settings: Mapping[str, Any]
    languages: tuple[str, ...]
    cases: int
    before: Mapping[str, CellFigures]
    after: Mapping[str, Mapping[str, CellFigures]]
    faulty: Mapping[str, int]

    @classmethod
    def of_cases(
        cls, cases: Mapping[str, Mapping[str, Sequence[CaseScore]]], signature: Mapping[str, Any]
    ) -> LanguageMatrix:
        """Return the matrix of cases by the edit's language, then the prompts'."""
        languages = tuple(cases)
        first = cases[languages[0]]
        return cls(
            signature_string(signature),
            dict(signature),
            languages,
            len(first[languages[0]]),
            {asked: _shown(first[asked], "pre") for asked in languages},
            {edited: {asked: _shown(of[asked], "post") for asked in languages} for edited, of in cases.items()},
            {edited: sum(case.fault is not None for case in of[edited]) for edited, of in cases.items()},
        )

    @classmethod
    def of_dict(cls, row: Mapping[str, Any]) -> LanguageMatrix:
        """Return the matrix that matrix.json holds. Raises DataError if it does not hold any."""
        try:
            return cls(
                str(row["signature"]),
                dict(row["settings"]),
                tuple(row["languages"]),
                int(row["cases"]),
                {asked: figures_of(figures) for asked, figures in row["before"].items()},
                {
                    edited: {asked: figures_of(figures) for asked, figures in of.items()}
                    for edited, of in row["after"].items()
                },
                {edited: int(count) for edited, count in row["faulty"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"this is no matrix of cfbuild ({type(error).__name__}: {error}); run `cfbuild {VERB}` with --restart"
            ) from error

    def as_dict(self) -> dict[str, Any]:
        """Return the content of matrix.json."""
        return {
            "signature": self.signature,
            "settings": dict(self.settings),
            "languages": list(self.languages),
            "cases": self.cases,
            "before": {asked: figures_as_dict(figures) for asked, figures in self.before.items()},
            "after": {
                edited: {asked: figures_as_dict(figures) for asked, figures in of.items()}
                for edited, of in self.after.items()
            },
            "faulty": dict(self.faulty),
        }

    @property
    def title(self) -> str:
        """The editor, the model and the number of records."""
        return f"{self.settings.get('editor')} on {self.settings.get('model')}, {self.cases:,} records"

    def rows(self, name: str) -> Iterator[tuple[str, tuple[Figure | None, ...]]]:
        """Yield the rows of a figure: the unedited model's, then each edit language's, a cell a language asked."""
        yield UNEDITED, tuple(self.before[asked].get(name) for asked in self.languages)
        for edited in self.languages:
            yield edited, tuple(self.after[edited][asked].get(name) for asked in self.languages)


def _shown(cases: Sequence[CaseScore], stage: str) -> dict[str, Figure]:
    figures = rounded(aggregate(cases, stage))
    return {name: figures[name] for name in SHOWN if name in figures}


def crossing(folder: BuildFolder, name: str) -> Run:
    """Return the run of edits across languages that is called `name`, finished or not."""
    return Run(folder, name, f"{VERB}/{name}", f"{RUNS}/{name}.{VERB}/")


def finished_matrices(folder: BuildFolder) -> dict[str, LanguageMatrix]:
    """Return the build's matrices by name. Raises DataError for a file that holds none."""
    found = {}
    for entry in sorted(folder.manifest().verbs):
        verb, _, name = entry.partition("/")
        path = crossing(folder, name).path(MATRIX) if verb == VERB and NAME.match(name) else None
        if path is not None and path.is_file():
            found[name] = LanguageMatrix.of_dict(read_json(path))
    return found
