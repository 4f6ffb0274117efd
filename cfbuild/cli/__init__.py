"""The command line: it reads options, calls a verb and prints a summary. Results go to stdout, all else to stderr.

A command's module is imported when the command is run, so that help answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cfbuild import __version__
from cfbuild.cli.shared import examples, guard_streams, print_text, with_options
from cfbuild.errors import CfbuildError

VERBS = {
    "fetch": "Get facts, labels, aliases and templates into the build folder.",
    "diff": "List what changed between the facts of two builds: new, ended, replaced and corrected facts.",
    "generate": "Make records of the fetched facts; keep those whose false object the model finds unlikely.",
    "train-editor": "Train the network of the editors mend-cf or ke-cf on records, or of mend or ke on texts.",
    "validate-and-score": "Check every record, edit the model by each one, print the paper's metrics before and after.",
    "compare": "Edit and score every record by several editors; print the table of all; write report.html.",
    "across": "Edit in each language and ask in every language: matrices of ES, PS and NS.",
    "score-base": "Score every prompt by unedited models; publish adds these scores to the dataset.",
    "trace": "Find the states that decide what the model says: causal traces of records, or of one prompt.",
    "sweep": "Edit at every layer and token, draw the curves, and find the layer that --layer auto takes.",
    "apply": "Write a model folder whose weights hold edits, with a card that lists what was changed.",
    "doctor": "Show the packages, devices, cache and models that cfbuild finds here, and what to repair.",
    "demo": "Run the main verbs on bundled facts, offline: fetch, generate, edit, score, publish (dry run).",
    "publish": "Publish the build as a dataset on the Hugging Face Hub, in one commit.",
    "report": "Print the scores of all runs in a table, the unedited model on top, and write report.html.",
    "study": "Compare runs by people: write blinded pages for raters, and read the answers they send back.",
    "show": "Look at records: prompts, probabilities before and after the edit, generated texts.",
    "export": "Write the records in another project's format: one JSON array, or a folder of files that a tool runs.",
    "audit": "Find the known faults of counterfactual records in any file, with examples, or write a cleaned file.",
}
"""The commands with the first line of their help, in the order of the list of commands.

Each has a module of its name with EXAMPLES and a function `run`, whose parameters are the options and whose docstring
is the help. A command with parts (`study make`) has a table PARTS of such functions instead.
"""


def command(name: str) -> Any:
    """Return the command of the verb `name`, after importing its module."""
    verb = import_module(f"{__name__}.{name.replace('-', '_')}")
    about: dict[str, Any] = {"add_completion": False, "rich_markup_mode": "markdown", "no_args_is_help": True}
    if not hasattr(verb, "PARTS"):
        alone = typer.Typer(**about | {"no_args_is_help": False})
        alone.command(name, epilog=examples(*verb.EXAMPLES))(with_options(verb.run))
        return get_command(alone)
    group = typer.Typer(name=name, help=VERBS[name], epilog=examples(*verb.EXAMPLES), **about)
    for part, function in verb.PARTS.items():
        of_part = (example for example in verb.EXAMPLES if example.startswith(f"cfbuild {name} {part} "))
        group.command(part, epilog=examples(*of_part))(with_options(function))
    return get_command(group)


class Commands(TyperGroup):
    """The commands of VERBS, of which only names and first lines are known until one is run."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=line) for name, line in VERBS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command's name, the command, and its arguments. Raises typer's error for an unknown name."""
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
    epilog="Start with `cfbuild demo`, which runs the main verbs on bundled facts, offline.",
)

EXIT_STORAGE = 5
"""The exit code if a file cannot be written or read: a full disk, a folder that is read-only."""


def main() -> None:
    """Run the command line; print the message of an error that a user can cause, and exit with its code."""
    guard_streams()
    try:
        app()
    except CfbuildError as error:
        print_text(f"cfbuild: {error}", err=True)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print_text(
            f"cfbuild: {where}{error.strerror or error}. Files that were there before are unchanged; make room or "
            "choose another folder, then run the same command again",
            err=True,
        )
        raise SystemExit(EXIT_STORAGE) from None
    except KeyboardInterrupt:
        print_text("cfbuild: interrupted; run the same command again to go on from here", err=True)
        raise SystemExit(130) from None


def _print_version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"cfbuild {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
