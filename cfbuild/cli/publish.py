"""The command `publish`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfbuild.cli.shared import Build, Json, Seed, open_folder, tell, tell_json

if TYPE_CHECKING:
    from cfbuild.pipeline.publish import Staged

EXAMPLES = (
    "cfbuild publish you/your-counterfact --dry-run",
    "cfbuild publish you/your-counterfact --private --tag v1",
    "cfbuild publish you/your-counterfact --create-pr",
)


def run(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The dataset's name on the Hub.")],
    build: Build = Path("build"),
    private: Annotated[bool, typer.Option("--private", help="Make the repository private if it is new.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    revision: Annotated[str, typer.Option(help="The branch to commit to; made if it is not there.")] = "main",
    tag: Annotated[str | None, typer.Option(help="A tag to set on the commit.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every file and the card; ask nothing of the network.")
    ] = False,
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Publish the build as a dataset on the Hugging Face Hub, in one commit.

    The token is the environment's (`HF_TOKEN`) or the login store's; `HF_ENDPOINT` names another Hub.
    """
    from dataclasses import asdict

    from cfbuild.pipeline import publish as verb
    from cfbuild.publish.hub import Destination

    folder, where = open_folder(build), Destination(repository, private, create_pr, revision, tag)
    if dry_run:
        _show_staged(verb.stage(folder, repository, seed), json_)
        return
    published = verb.publish(folder, where, seed)
    if json_:
        tell_json(asdict(published), indent=None)
        return
    tell("published" if published.changed else "nothing to do: the Hub already holds this build")
    tell(published.url)


def _show_staged(staged: Staged, as_json: bool) -> None:
    """Print every file with its size and digest, and the card."""
    rows = [{"path": one.path, "bytes": one.size, "sha256": one.sha256} for one in staged.files]
    if as_json:
        tell_json({"files": rows, "card": staged.card})
        return
    width = max(len(one.path) for one in staged.files)
    for one in staged.files:
        tell(f"{one.path:<{width}}  {one.size:>12,}  {one.sha256}")
    tell(f"\n{staged.card}")
