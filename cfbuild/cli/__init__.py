"""The command line: options in, a verb called, a summary out. Data goes to stdout, everything else to stderr.

A command's module is imported when it is run, and nothing heavy before that, so that help answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cfbuild import __version__
from cfbuild.cli.shared import examples, guard_streams, tell, with_options
from cfbuild.errors import CfbuildError

VERBS = {
    "fetch": "Get facts, labels, aliases and templates into the build folder.",
    "diff": "Find what changed between the facts of two builds: what is new, ended, replaced, corrected.",
    "generate": "Make records of the fetched facts; keep those whose false object the model finds unlikely.",
    "train-editor": "Train the network of the editors mend-cf or ke-cf on records, or of mend or ke on texts.",
    "validate-and-score": "Check every record; edit the model by each one; print the paper's metrics before and after.",
    "compare": "Edit and score every record by each of several editors; print their table; write report.html.",
    "across": "Edit in each language, ask in every one: a matrix of ES, PS and NS for a build of several languages.",
    "score-base": "Score every prompt by unedited models; publish has the result as configurations of the dataset.",
    "trace": "Find the states that decide what the model says: causal traces of records, or of one prompt.",
    "sweep": "Edit at every layer and token; find the layer to edit; curves over the layers, for --layer auto.",
    "apply": "Write a model folder whose weights hold edits, with a card that says what was changed.",
    "doctor": "Say what this machine has of what cfbuild needs: packages, devices, cache, models; what to mend.",
    "demo": "The whole road on bundled facts, offline: fetch, generate, edit, score, publish (dry run).",
    "publish": "Publish the build as a dataset on the Hugging Face Hub, in one commit.",
    "report": "Print the scores of all runs in a table, the unedited model on top, and write report.html with it.",
    "study": "The human evaluation: write blinded pages for raters of a build's texts, and read what they answered.",
    "show": "Look at records: prompts, probabilities before and after the edit, generated texts.",
    "export": "Write the records in another project's format: one JSON array, or a folder of files that a tool runs.",
    "audit": "Find the known faults of counterfactual records in anyone's file, with examples; or clean the file.",
}
"""The commands with the first line of their help, in its order.

Each has a module of its name with EXAMPLES and a function `run`, whose parameters are the options and whose docstring
is the help. A command with parts has a table PARTS of such functions instead.
"""


def command(name: str) -> Any:
    """Return the command of a verb, for which its module is imported."""
    verb = import_module(f"{__name__}.{name.replace('-', '_')}")
    about: dict[str, Any] = {"add_completion": False, "rich_markup_mode": "markdown", "no_args_is_help": True}
    if not hasattr(verb, "PARTS"):
        alone = typer.Typer(**about | {"no_args_is_help": False})
        alone.command(name, epilog=examples(*verb.EXAMPLES))(with_options(verb.run))
        return get_command(alone)
    group = typer.Typer(name=name, help=VERBS[name], epilog=examples(*verb.EXAMPLES), **about)
    for part, function in verb.PARTS.items():
        own = (one for one in verb.EXAMPLES if one.startswith(f"cfbuild {name} {part} "))
        group.command(part, epilog=examples(*own))(with_options(function))
    return get_command(group)


class Commands(TyperGroup):
    """The table VERBS as commands: each is a line of the list until it is run."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = {name: TyperCommand(name, help=line) for name, line in VERBS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the command itself and the words for it. Raises typer's error for a name that is none."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, command(name) if name and found else found, rest


app = typer.Typer(
    name="cfbuild",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Build CounterFact-style knowledge-editing data, filter it with a language model, score editors on it.",
    epilog="Start with `cfbuild demo`: the whole road on bundled facts, offline.",
)

EXIT_STORAGE = 5
"""The exit code if a file cannot be written or read: a full disk, a folder that is read-only."""


def main() -> None:
    """Run the command line; turn an error that a user can cause into its message and exit code."""
    guard_streams()
    try:
        app()
    except CfbuildError as error:
        tell(f"cfbuild: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell(
            f"cfbuild: {where}{error.strerror or error}. What stood there before still does; make room or choose "
            "another folder, then run the same command again",
            err=True,
        )
        raise SystemExit(EXIT_STORAGE) from None
    except KeyboardInterrupt:
        tell("cfbuild: interrupted; run the same command again to go on from here", err=True)
        raise SystemExit(130) from None


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"cfbuild {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
