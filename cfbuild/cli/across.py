"""The command `across`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cfbuild.cli.shared import Build, OutputOptions, new_table, print_json, print_text
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.across import AcrossOptions, across
from cfbuild.store.folder import BuildFolder
from cfbuild.text.safe import visible

if TYPE_CHECKING:
    from cfbuild.score.matrix import LanguageMatrix

EXAMPLES = (
    "cfbuild across --model Qwen/Qwen2.5-0.5B --limit 100",
    "cfbuild across --languages en,fr --editor ft-l --run small",
)


def run(
    build: Build = Path("build"), *, options: AcrossOptions, lm_options: ModelOptions, output: OutputOptions
) -> None:
    """Edit in each language and ask in every language: matrices of ES, PS and NS.

    The build needs records in several languages (generate --languages). Each record that all of them have is edited
    on the unedited model. An interrupted run goes on after its last finished chunk; a finished run is not repeated.
    """
    from cfbuild.score.matrix import MATRIX, crossing

    folder = BuildFolder(build)
    lm = output.load_model(lm_options)
    with output.progress() as progress:
        matrix = across(folder, options, lm, progress)
    if output.json_:
        print_json(matrix.as_dict())
        return
    print_matrix(matrix)
    print_text(f"matrix: {crossing(folder, options.name).path(MATRIX)}")


def print_matrix(matrix: LanguageMatrix) -> None:
    """Print a table of each figure: a row for each language of the edits, a column for each language of the prompts."""
    from rich.console import Console
    from rich.text import Text

    from cfbuild.score.matrix import SHOWN
    from cfbuild.score.table import figure_text

    console = Console()
    console.print(visible(f"{matrix.title}: times 100, mean ± 95% interval"), style="italic", markup=False)
    for name in SHOWN:
        table = new_table(("edited in, asked in", *map(visible, matrix.languages)), name)
        for place, (label, figures) in enumerate(matrix.rows(name)):
            table.add_row(visible(label), *map(figure_text, figures), style="dim" if place == 0 else None)
        console.print(table)
    faulty = ", ".join(f"{count} in {code}" for code, count in matrix.faulty.items() if count)
    if faulty:
        console.print(Text(visible(f"edits that failed: {faulty}"), style="yellow"))
