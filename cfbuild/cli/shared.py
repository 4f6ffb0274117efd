"""Parts that all commands share: options, printing, and the display of progress."""

from __future__ import annotations

import inspect
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from cfbuild.lm.selection import ModelOptions
from cfbuild.option import ABOUT_RUN, REQUIRED, Option, assemble, option, options_of
from cfbuild.progress import Progress, reported_bars, silent
from cfbuild.text.safe import discreet, visible, visible_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cfbuild.lm.model import LanguageModel

LINE_EVERY_S = 5.0
"""Seconds between two lines of progress where there is no terminal for a bar, the most that a user waits for a sign."""
WIDE = 200
"""Columns of output that is no terminal, so that no cell of a table is broken."""

Build = Annotated[Path, typer.Option("--build", "-b", help="The build folder to read and write.")]


@dataclass(frozen=True)
class OutputOptions:
    """The output options of every command, and what depends on them."""

    json_: bool = option(False, "Print the result as JSON on stdout.", flag="--json", panel=ABOUT_RUN)
    quiet: bool = option(False, "Print no progress and no notes on stderr.", flag="--quiet -q", panel=ABOUT_RUN)

    def note(self, text: object) -> None:
        """Print a value as text on stderr unless `quiet`."""
        if not self.quiet:
            print_text(text, err=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield the display of progress: bars on a terminal, lines elsewhere, nothing if `quiet`.

        The progress bars of libraries are displayed in the same way.
        """
        chosen = nullcontext(silent) if self.quiet else _bars() if sys.stderr.isatty() else nullcontext(_Lines())
        with chosen as display, reported_bars(display):
            yield display

    def load_model(self, options: ModelOptions) -> LanguageModel:
        """Return the chosen model; unless `quiet`, notes on stderr say what is loaded and where it runs."""
        self.note(f"loading {options.model} ...")
        from cfbuild.lm.load import load_chosen

        with self.progress() as progress:
            lm = load_chosen(options, progress)
        self.note(f"loaded {lm.name} ({lm.revision}) on {lm.device}, {str(lm.dtype).removeprefix('torch.')}")
        return lm

    def print_summary(self, summary: Any, lines: Callable[[Any], Iterable[str]]) -> None:
        """Print a verb's summary, a dataclass: as JSON, or as the lines that `lines` returns for it."""
        if self.json_:
            print_json(asdict(summary))
        else:
            for line in lines(summary):
                print_text(line)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` as a function for typer, with one keyword parameter for each option.

    A parameter of `command` whose type is a dataclass becomes the options that the dataclass declares.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += map(_parameter, options_of(groups[name]))
        else:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name]))

    def run(**typed: Any) -> None:
        values = {name: _collected(kind, typed) for name, kind in groups.items()}
        command(**{name: value for name, value in typed.items() if name in hints}, **values)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def _parameter(declared: Option) -> inspect.Parameter:
    """Return typer's parameter for a declared option; the value None means that it was not given."""
    details: dict[str, Any] = {"help": declared.help, "metavar": declared.metavar, "rich_help_panel": declared.panel}
    if declared.form:
        details["autocompletion"] = declared.form.completed
    kind: Any = declared.kind if declared.form is None else list[str] if declared.form.repeated else str
    default: Any = declared.default
    info: Any = typer.Option(*declared.flags, **details)
    if default is REQUIRED:
        info, default = typer.Argument(**details), inspect.Parameter.empty
    elif default is None or "[default:" in declared.help or (declared.form and declared.form.repeated):
        kind, default = kind | None, None
    elif declared.form:
        default = declared.form.write(default)
    hint = Annotated[kind, info]
    return inspect.Parameter(declared.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _collected(kind: type, typed: dict[str, Any]) -> Any:
    """Return an instance of the options dataclass `kind`. `typed` are typer's values by parameter name."""
    values: dict[str, Any] = {}
    for declared in options_of(kind):
        value = typed[declared.name]
        if value is not None:
            values[declared.name] = declared.form.read(value) if declared.form else value
    return assemble(kind, values)


def examples(*commands: str) -> str:
    """Return the last part of a command's help: the example commands as a list."""
    return "\n\n".join(["Examples:", *(f"- `{command}`" for command in commands)])


def print_text(text: object, err: bool = False) -> None:
    """Print a value as text, with control characters made visible and secrets left out; `err` prints to stderr."""
    typer.echo(visible(discreet(str(text))), err=err)


def print_json(value: Any, indent: int | None = 1) -> None:
    """Print a value as JSON on stdout."""
    typer.echo(visible_json(json.dumps(value, ensure_ascii=False, indent=indent, default=str)))


def new_console() -> Console:
    """Return a console of the terminal's width; WIDE columns where stdout is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def new_table(heads: Iterable[str], title: str = "", texts: int = 1) -> Table:
    """Return a table of rich, without rows; its first `texts` columns hold texts, the others numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(visible(title), style="italic") if title else None)
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place < texts else "right")
    return table


class _SafeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(discreet(super().format(record)))


def guard_streams() -> None:
    """Make output safe in any locale, logs and tracebacks too: it never raises, moves the cursor or shows a secret."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_SafeFormatter("cfbuild: %(message)s"))
    logger = logging.getLogger("cfbuild")
    logger.addHandler(handler)
    logger.propagate = False
    sys.excepthook = lambda *raised: print_text("".join(traceback.format_exception(*raised)), err=True)


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
    )
    tasks: dict[str, rich.TaskID] = {}
    with rich.Progress(*columns, console=Console(stderr=True)) as display:

        def report(task: str, done: int, total: int | None) -> None:
            if task not in tasks:
                tasks[task] = display.add_task(task, total=total)
            display.update(tasks[task], completed=done, total=total)

        yield report


class _Lines:
    """Progress as lines on stderr: a line about every LINE_EVERY_S seconds, and one when a task begins or is done.

    Calls come when something is done, so a line is written early if the next call may come too late.
    """

    def __init__(self) -> None:
        self._begun: set[str] = set()
        self._line_at = self._call_at = time.monotonic()

    def __call__(self, task: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        is_due = (now - self._line_at) + (now - self._call_at) >= LINE_EVERY_S
        self._call_at = now
        if done == total or is_due or task not in self._begun:
            self._begun.add(task)
            self._line_at = now
            print_text(f"{task}: {done} of {total if total is not None else '?'}", err=True)
