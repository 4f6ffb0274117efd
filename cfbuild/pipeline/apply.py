"""`cfbuild apply`: a model folder whose weights hold edits, which other tools can load and evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild import __version__
from cfbuild.data import Record
from cfbuild.errors import ConfigError, DataError, ModelError
from cfbuild.option import REQUIRED, Form, option
from cfbuild.progress import Progress, reported_bars, silent
from cfbuild.store.codec import decode_record
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import read_values
from cfbuild.text.safe import visible

if TYPE_CHECKING:
    from cfbuild.edit.editor import Edit
    from cfbuild.lm.model import LanguageModel

RECORDS = "records.jsonl"
MOST_ROWS = 100
"""The most records that a card lists, a few screens."""


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--case {text!r}: expected case ids such as 17 or 17,18,40") from None


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """Options of `cfbuild apply`. Raises ConfigError if the new folder is there already."""

    edits: Path = option(REQUIRED, "A file of edits, from --keep-edits or from Python's Edit.save.", metavar="EDITS")
    out: Path = option(Path("edited-model"), "The model folder to write, which must not exist yet.", flag="--out -o")
    case: tuple[int, ...] = option(
        (),
        "Comma-separated case ids of the records whose edits to apply. [default: all edits of the file]",
        form=Form(_numbers, lambda cases: ",".join(map(str, cases))),
        metavar="<int,...>",
    )

    def __post_init__(self) -> None:
        if self.out.exists():
            raise ConfigError(f"{self.out} is there already; give --out the name of a new folder")


@dataclass(frozen=True, slots=True)
class Applied:
    """An edited model: its folder, the case ids of its edits, and those left out because their edits failed.

    weights: norms of the changes by weight, such as "17/mlp_out". norm: that of all changes together.
    """

    folder: str
    cases: tuple[int, ...]
    faulty: tuple[int, ...]
    weights: Mapping[str, float]
    norm: float


def apply_edits(options: ApplyOptions, lm: LanguageModel, progress: Progress = silent) -> Applied:
    """Write the model with the edits in its weights; return what was changed.

    Raises ConfigError for a case that the file has no edit of, or whose edit failed; ModelError if the edits were made
    on another model; DataError if the file holds no change of weights.
    """
    from cfbuild.edit.editor import check_delta
    from cfbuild.edit.saved import load_edits
    from cfbuild.lm.delta import Delta, summed
    from cfbuild.lm.save import save_edited

    chosen, faulty = _chosen(load_edits(options.edits), options)
    for edit in chosen:
        if edit.model and edit.model.get("revision") != lm.revision:
            raise ModelError(
                f"{options.edits}: the edits were made on {edit.model.get('model')} ({edit.model.get('revision')}), "
                f"and the model is {lm.name} ({lm.revision}); give --model that one"
            )
    total = summed(edit.delta for edit in chosen if edit.delta is not None)
    if total is None:
        raise DataError(f"{options.edits}: holds no change of weights; an edit in context changes none")
    check_delta(str(options.edits), lm, total)
    cases = tuple(sorted(case for edit in chosen for case in edit.records))
    weights = {f"{weight.layer}/{weight.part}": Delta({weight: part}).norm for weight, part in total.changes.items()}
    applied = Applied(str(options.out), cases, faulty, weights, total.norm)
    with reported_bars(progress):
        save_edited(lm, total, options.out, _card(applied, options.edits, lm))
    return applied


def _chosen(edits: Sequence[Edit], options: ApplyOptions) -> tuple[list[Edit], tuple[int, ...]]:
    """Return the edits to apply, and the case ids of failed ones. Raises ConfigError as `apply_edits`."""
    known = {case for edit in edits for case in edit.records}
    if unknown := [case for case in options.case if case not in known]:
        raise ConfigError(f"{options.edits}: has no edit of case {', '.join(map(str, unknown))}")
    chosen = [edit for edit in edits if not options.case or set(edit.records) & set(options.case)]
    failed = [edit for edit in chosen if edit.fault is not None]
    if options.case and failed:
        faults = "; ".join(f"{', '.join(map(str, edit.records))}: {edit.fault}" for edit in failed)
        raise ConfigError(f"{options.edits}: an edit that failed cannot be applied (case {faults})")
    return [edit for edit in chosen if edit.fault is None], tuple(case for edit in failed for case in edit.records)


def _records_of(edits: Path, cases: Sequence[int]) -> list[Record]:
    """Return the edited records, if the file of edits lies in a run of a build; else none."""
    file = edits.resolve().parents[2] / RECORDS if len(edits.resolve().parents) > 2 else edits
    if edits.resolve().parent.parent.name != "runs" or not file.is_file():
        return []
    return [record for record in read_values(file, decode_record) if record.case_id in set(cases)]


def _card(applied: Applied, edits: Path, lm: LanguageModel) -> str:
    """Return the model card: the model, the changed weights, and the facts that it was edited to state."""
    records = _records_of(edits, applied.cases)
    together = (
        "Each edit was made on the unedited model; applied together they act on one another, which nobody has measured "
        "unless you do.\n"
        if len(applied.cases) > 1
        else ""
    )
    rows = [
        f"| {record.case_id} | {_cell(record.rewrite)} | {_cell(record.target_true.label)} | "
        f"{_cell(record.target_new.label)} |"
        for record in records[:MOST_ROWS]
    ]
    facts = ["| case | prompt | was | is now |", "|---|---|---|---|", *rows] if rows else []
    more = [f"\nand {len(records) - MOST_ROWS} more."] if len(records) > MOST_ROWS else []
    weights = [f"| {name} | {norm:.4g} |" for name, norm in applied.weights.items()]
    lines = [
        "---",
        "library_name: transformers",
        "tags:",
        "- knowledge-editing",
        "---",
        "",
        f"# {_cell(lm.name)}, edited",
        "",
        f"The weights of {_cell(lm.name)} (revision {lm.revision}) with {len(applied.cases)} edited "
        f"{'record' if len(applied.cases) == 1 else 'records'} in them, written by cfbuild {__version__} from a file "
        f"of edits with the sha256 {sha256_file(edits)}. **It states false facts, on purpose:** it is for research on "
        "knowledge editing and for nothing else. The licence is that of the model it was made of.",
        "",
        together,
        "| changed weight (layer/part) | norm of the change |",
        "|---|---|",
        *weights,
        "",
        *facts,
        *more,
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return visible(text).replace("|", "\\|").replace("\n", " ")
