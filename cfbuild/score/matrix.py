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
"""The name of the row of the model before any edit."""
CellFigures = Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class LanguageMatrix:
    """ES, PS and NS of edits, times 100, by the language of the edit and the language of the prompts.

    Every one of `languages`, in the build's order, is both; `cases` is the number of records, the same in all of them.
    `before` holds the unedited model's figures by the prompts' language, `after` those after the edits by the edit's
    language, then the prompts'. `faulty` is the number of records without an edit, by the edit's language.
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
        """Return the matrix of cases, given by the edit's language, then the prompts'. signature: as in `Report`."""
        languages = tuple(cases)
        first = cases[languages[0]]
        return cls(
            signature_string(signature),
            dict(signature),
            languages,
            len(first[languages[0]]),
            {code: _shown(first[code], "pre") for code in languages},
            {edited: {code: _shown(row[code], "post") for code in languages} for edited, row in cases.items()},
            {edited: sum(case.fault is not None for case in row[edited]) for edited, row in cases.items()},
        )

    @classmethod
    def of_dict(cls, row: Mapping[str, Any]) -> LanguageMatrix:
        """Return the matrix that matrix.json holds. Raises DataError if it holds none."""
        try:
            return cls(
                str(row["signature"]),
                dict(row["settings"]),
                tuple(row["languages"]),
                int(row["cases"]),
                _cells(row["before"]),
                {edited: _cells(cells) for edited, cells in row["after"].items()},
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
            "before": _cells_as_dict(self.before),
            "after": {edited: _cells_as_dict(cells) for edited, cells in self.after.items()},
            "faulty": dict(self.faulty),
        }

    @property
    def title(self) -> str:
        """Return the editor, the model and the number of records: `rome on gpt2-xl, 200 records`."""
        return f"{self.settings.get('editor')} on {self.settings.get('model')}, {self.cases:,} records"

    def rows(self, name: str) -> Iterator[tuple[str, tuple[Figure | None, ...]]]:
        """Yield (head, cells by language of the prompts) of each row of figure `name`, the unedited model's first."""
        yield UNEDITED, tuple(self.before[code].get(name) for code in self.languages)
        for edited in self.languages:
            yield edited, tuple(self.after[edited][code].get(name) for code in self.languages)


def _cells(row: Mapping[str, Any]) -> dict[str, CellFigures]:
    return {code: figures_of(figures) for code, figures in row.items()}


def _cells_as_dict(row: Mapping[str, CellFigures]) -> dict[str, Any]:
    return {code: figures_as_dict(figures) for code, figures in row.items()}


def _shown(cases: Sequence[CaseScore], stage: str) -> dict[str, Figure]:
    figures = rounded(aggregate(cases, stage))
    return {name: figures[name] for name in SHOWN if name in figures}


def crossing(folder: BuildFolder, name: str) -> Run:
    """Return the run of `cfbuild across` that is called `name`, finished or not."""
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
