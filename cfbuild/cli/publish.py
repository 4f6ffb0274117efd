"""The command `publish`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfbuild.cli.shared import Build, OutputOptions, print_json, print_text
from cfbuild.publish.hub import Destination
from cfbuild.publish.split import SplitOptions
from cfbuild.store.folder import BuildFolder
from cfbuild.work import WorkerOptions

if TYPE_CHECKING:
    from cfbuild.pipeline.publish import Staged

EXAMPLES = (
    "cfbuild publish you/your-counterfact --dry-run",
    "cfbuild publish you/your-counterfact --private --tag v1 --workers 2",
    "cfbuild publish you/your-counterfact --create-pr",
)


def run(
    where: Destination,
    build: Build = Path("build"),
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every file and the card; send nothing, use no network.")
    ] = False,
    division: SplitOptions,
    processes: WorkerOptions,
    output: OutputOptions,
) -> None:
    """Publish the build as a dataset on the Hugging Face Hub, in one commit.

    The access token comes from the environment (`HF_TOKEN`) or from `hf auth login`; `HF_ENDPOINT` names another Hub.
    """
    from cfbuild.pipeline import publish as verb

    folder = BuildFolder(build)
    if dry_run:
        with output.progress() as progress:
            staged = verb.stage(folder, where.repository, division.seed, progress, processes)
        _show_staged(staged, output.json_)
        return
    with output.progress() as progress:
        published = verb.publish(folder, where, division.seed, progress, processes)
    if output.json_:
        print_json(asdict(published), indent=None)
        return
    print_text("published" if published.changed else "nothing to do: the Hub already holds this build")
    print_text(published.url)


def _show_staged(staged: Staged, as_json: bool) -> None:
    if as_json:
        rows = [{"path": file.path, "bytes": file.size, "sha256": file.sha256} for file in staged.files]
        print_json({"files": rows, "card": staged.card})
        return
    width = max(len(one.path) for one in staged.files)
    for file in staged.files:
        print_text(f"{file.path:<{width}}  {file.size:>12,}  {file.sha256}")
    print_text(f"\n{staged.card}")
