"""Options that several commands have, and how every command shows progress."""

from __future__ import annotations

import inspect
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from cfbuild.errors import ConfigError
from cfbuild.progress import Progress
from cfbuild.text.safe import discreet, visible, visible_json

if TYPE_CHECKING:
    from cfbuild.lm.model import LanguageModel
    from cfbuild.store.folder import BuildFolder

LINE_EVERY_S = 10.0
"""Where there is no terminal, progress is a line this often instead of a bar."""

ABOUT_MODEL = "The model"
ABOUT_RUN = "The run"
"""Panels of the help, for options that most commands have."""

Build = Annotated[Path, typer.Option("--build", "-b", help="The build folder that this verb reads and writes.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.", rich_help_panel=ABOUT_RUN)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.", rich_help_panel=ABOUT_RUN)]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", rich_help_panel=ABOUT_RUN)]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart", help="Throw away what this verb did in this build, start over.", rich_help_panel=ABOUT_RUN
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:1, mps, ...; auto takes an accelerator if there is one.",
        rich_help_panel=ABOUT_MODEL,
    ),
]


@dataclass(frozen=True)
class RunOptions:
    """Options of a command that does long work."""

    seed: Seed = 0
    restart: Restart = False
    json_: Json = False
    quiet: Quiet = False


@dataclass(frozen=True)
class ModelOptions:
    """Options of a command that loads a model."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A preset (smollm2-135m, gpt2-medium, gpt2-large, gpt2-xl, gpt-j-6b), a Hub id, a folder, or a .gguf "
            "file.",
            rich_help_panel=ABOUT_MODEL,
        ),
    ] = "smollm2-135m"
    device: Device = "auto"
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=ABOUT_MODEL)] = (
        "auto"
    )
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of a model on the Hub.", rich_help_panel=ABOUT_MODEL),
    ] = None
    trust: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The name given with --model once more, to allow pickled weights and code of that model's repository, "
            "which then runs as you.",
            rich_help_panel=ABOUT_MODEL,
        ),
    ] = None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command` for typer: each parameter whose type is a dataclass of options stands for these options."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            own = inspect.signature(groups[name]).parameters.values()
            types = get_type_hints(groups[name], include_extras=True)
            parameters += [one.replace(kind=parameter.KEYWORD_ONLY, annotation=types[one.name]) for one in own]
        else:
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name]))

    def spread(**given: Any) -> None:
        collected = {
            name: kind(**{one.name: given.pop(one.name) for one in fields(kind)}) for name, kind in groups.items()
        }
        command(**given, **collected)

    spread.__name__, spread.__doc__ = command.__name__, command.__doc__
    spread.__annotations__ = {one.name: one.annotation for one in parameters}
    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return spread


def examples(*commands: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["Examples:", *(f"- `{command}`" for command in commands)])


def open_folder(root: Path) -> BuildFolder:
    from cfbuild.store.folder import BuildFolder

    return BuildFolder(root)


def load_model(options: ModelOptions, quiet: bool) -> LanguageModel:
    say(quiet, f"loading {options.model} ...")
    from cfbuild.lm.load import load

    lm = load(options.model, device=options.device, dtype=options.dtype, revision=options.revision, trust=options.trust)
    say(quiet, f"loaded {lm.name} ({lm.revision}) on {lm.device}, {str(lm.dtype).removeprefix('torch.')}")
    return lm


def split(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def given(**options: Any) -> dict[str, Any]:
    """The options that were given, so that the others keep the defaults of whoever defines them."""
    return {name: value for name, value in options.items() if value is not None}


def named_values(texts: Iterable[str]) -> dict[str, Any]:
    """NAME=VALUE as a dictionary; a value that is JSON (a number, true, null) is taken as that, others are text.

    Raises ConfigError for a text without a name.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigError(f"--set {text}: expected NAME=VALUE")
        try:
            values[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            values[name.replace("-", "_")] = value
    return values


def tell(text: object, err: bool = False) -> None:
    """Print text from anywhere: no control moves the cursor, no secret is shown."""
    typer.echo(visible(discreet(str(text))), err=err)


def tell_json(value: Any, indent: int | None = 1) -> None:
    """Print a value as JSON on stdout."""
    typer.echo(visible_json(json.dumps(value, ensure_ascii=False, indent=indent, default=str)))


def say(quiet: bool, text: str) -> None:
    if not quiet:
        tell(text, err=True)


def tell_summary(summary: Any, as_json: bool, lines: Callable[[Any], Iterable[str]]) -> None:
    """Print what a verb did: a dataclass as JSON, or as `lines` puts it."""
    if as_json:
        tell_json(asdict(summary))
    else:
        for line in lines(summary):
            tell(line)


class _Discreet(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(discreet(super().format(record)))


def guard_streams() -> None:
    """Let nothing printed raise, move the cursor or show a secret: whatever the locale, in logs, and in tracebacks."""
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
    """Bars on a terminal, a line now and then elsewhere, nothing if quiet."""
    from cfbuild.progress import silent

    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bars() as bars:
            yield bars
    else:
        yield _Lines()


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
    """Progress as lines on stderr, each task at most every LINE_EVERY_S seconds, and when it is done."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def __call__(self, task: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done == total or now - self._last.get(task, 0.0) >= LINE_EVERY_S:
            self._last[task] = now
            tell(f"{task}: {done} of {total if total is not None else '?'}", err=True)
