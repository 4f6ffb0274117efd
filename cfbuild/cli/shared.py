"""The parts that commands share: options, printing, and the display of progress."""

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
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, get_origin, get_type_hints

import typer

from cfbuild.lm.selection import ModelOptions
from cfbuild.option import (
    ABOUT_RUN,
    REQUIRED,
    Form,
    Option,
    assemble,
    option,
    options_of,
)
from cfbuild.progress import Progress, reported_bars, silent
from cfbuild.text.safe import discreet, visible, visible_json

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel
    from cfbuild.store.folder import BuildFolder

LINE_EVERY_S = 5.0
"""Seconds between two lines of progress where there is no terminal for a bar."""

Build = Annotated[Path, typer.Option("--build", "-b", help="The build folder that this verb reads and writes.")]


@dataclass(frozen=True)
class OutputOptions:
    """The output options of every command."""

    json_: bool = option(False, "Print the result as JSON on stdout.", flag="--json", panel=ABOUT_RUN)
    quiet: bool = option(False, "No progress and no notes on stderr.", flag="--quiet -q", panel=ABOUT_RUN)


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` for typer: a parameter whose type is a dataclass becomes the options that it declares."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            parameters += _parameters(groups[name])
        else:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name]))

    def spread(**given: Any) -> None:
        values = {name: _collected(kind, given) for name, kind in groups.items()}
        command(**{name: value for name, value in given.items() if name in hints}, **values)

    spread.__name__, spread.__doc__ = command.__name__, command.__doc__
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return spread


def _parameters(kind: type) -> list[inspect.Parameter]:
    """Return typer's parameters for a dataclass: its declared options, then its fields annotated for typer."""
    declared = [_parameter(each) for each in options_of(kind)]
    own = inspect.signature(kind).parameters
    types = get_type_hints(kind, include_extras=True)
    annotated = [name for name, hint in types.items() if get_origin(hint) is Annotated]
    return declared + [
        own[name].replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=types[name]) for name in annotated
    ]


def _parameter(declared: Option) -> inspect.Parameter:
    """Return typer's parameter for a declared option; the value None means that it was not given."""
    about: dict[str, Any] = {"help": declared.help, "metavar": declared.metavar, "rich_help_panel": declared.panel}
    if declared.form:
        about["autocompletion"] = _completer(declared.form)
    kind: Any = declared.kind if declared.form is None else list[str] if declared.form.repeated else str
    default: Any = declared.default
    info: Any = typer.Option(*declared.flags, **about)
    if default is REQUIRED:
        info, default = typer.Argument(**about), inspect.Parameter.empty
    elif default is None or declared.tells_default or (declared.form and declared.form.repeated):
        kind, default = kind | None, None
    elif declared.form:
        default = declared.form.write(default)
    hint = Annotated[kind, info]
    return inspect.Parameter(declared.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _completer(form: Form) -> Callable[[str], list[str]]:
    """Return the function that typer asks for the completions of what was typed; it reads the annotation."""

    def complete(incomplete: str) -> list[str]:
        return form.completed(incomplete)

    return complete


def _collected(kind: type, given: dict[str, Any]) -> Any:
    """Return the value of the options type `kind` from typer's values by parameter name."""
    values: dict[str, Any] = {}
    forms = {declared.name: declared.form for declared in options_of(kind)}
    for parameter in _parameters(kind):
        value, form = given[parameter.name], forms.get(parameter.name)
        if value is not None:
            values[parameter.name] = form.read(value) if form else value
    return assemble(kind, values)


def examples(*commands: str) -> str:
    """Return the end of a command's help, with example commands."""
    return "\n\n".join(["Examples:", *(f"- `{command}`" for command in commands)])


def open_folder(root: Path) -> BuildFolder:
    from cfbuild.store.folder import BuildFolder

    return BuildFolder(root)


def load_model(options: ModelOptions, quiet: bool) -> LanguageModel:
    say(quiet, f"loading {options.model} ...")
    from cfbuild.lm.load import load_chosen

    with shown_progress(quiet) as progress:
        lm = load_chosen(options, progress)
    say(quiet, f"loaded {lm.name} ({lm.revision}) on {lm.device}, {str(lm.dtype).removeprefix('torch.')}")
    return lm


def tell(text: object, err: bool = False) -> None:
    """Print text from anywhere, with controls made visible and secrets left out; `err` prints to stderr."""
    typer.echo(visible(discreet(str(text))), err=err)


def tell_json(value: Any, indent: int | None = 1) -> None:
    """Print a value as JSON on stdout."""
    typer.echo(visible_json(json.dumps(value, ensure_ascii=False, indent=indent, default=str)))


def say(quiet: bool, text: str) -> None:
    if not quiet:
        tell(text, err=True)


def tell_summary(summary: Any, as_json: bool, lines: Callable[[Any], Iterable[str]]) -> None:
    """Print a verb's summary, which is a dataclass: as JSON, or as the lines that `lines` makes of it."""
    if as_json:
        tell_json(asdict(summary))
    else:
        for line in lines(summary):
            tell(line)


class _Discreet(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(discreet(super().format(record)))


def guard_streams() -> None:
    """Keep all output from raising, moving the cursor or showing a secret, in any locale, in logs and tracebacks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_Discreet("cfbuild: %(message)s"))
    logger = logging.getLogger("cfbuild")
    logger.addHandler(handler)
    logger.propagate = False
    sys.excepthook = _tell_trace


def _tell_trace(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    tell("".join(traceback.format_exception(kind, error, trace)), err=True)


@contextmanager
def shown_progress(quiet: bool) -> Iterator[Progress]:
    """Yield the display of progress: bars on a terminal, a line now and then elsewhere, nothing if quiet.

    What libraries would draw as bars meanwhile is displayed in the same way.
    """
    shown = nullcontext(silent) if quiet else _bars() if sys.stderr.isatty() else nullcontext(_Lines())
    with shown as display, reported_bars(display):
        yield display


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
            tell(f"{task}: {done} of {total if total is not None else '?'}", err=True)
