"""The command line: options in, a verb called, a summary out. Data goes to stdout, everything else to stderr.

Nothing heavy is imported before a command runs, so that help answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cfbuild import __version__
from cfbuild.cli import audit, demo, export, fetch, generate, publish, report, show, validate_and_score
from cfbuild.cli.shared import examples, guard_streams, tell, with_options
from cfbuild.errors import CfbuildError

VERBS = {
    "fetch": fetch,
    "generate": generate,
    "validate-and-score": validate_and_score,
    "demo": demo,
    "publish": publish,
    "report": report,
    "show": show,
    "export": export,
    "audit": audit,
}
"""The commands, in the order of the help.

Each is a module with EXAMPLES and a function `run`, whose parameters are the options and whose docstring is the help.
"""

app = typer.Typer(
    name="cfbuild",
    no_args_is_help=True,
    add_completion=False,
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


for name, verb in VERBS.items():
    app.command(name, epilog=examples(*verb.EXAMPLES))(with_options(verb.run))
