"""Figures of the house: lengths of functions, their parameters, names that come twice or say nothing, first words.

Prints them, and every place beyond a limit; exits with 1 if there is any. Run from anywhere: python scripts/house.py
"""

from __future__ import annotations

import ast
import inspect
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cfbuild"
MEDIAN_LINES, NINETIETH_LINES, MOST_LINES, MOST_PARAMETERS = 12, 25, 60, 6
"""The limits that DESIGN 7 and this project's first issue on its house set."""
PAIRED = ("cli", "pipeline")
"""Rooms in which a verb has a file each, of one name."""
VAGUE = frozenset({"one", "some", "other"})
"""Names of variables that do not say what they hold; a comprehension of one line may have them."""
QUESTIONS = frozenset({"What", "Which", "Where", "How", "Whether"})
"""First words of docstrings that describe and do not tell what to do."""
MEASURED = {"package": ("cfbuild", "*.py"), "tests": ("tests", "*.py"), "docs": ("docs", "*.md")}
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Function(NamedTuple):
    """A function or method: where it is, its lines, and its parameters without `self`, `cls` and `ctx`."""

    place: str
    lines: int
    parameters: int


@cache
def trees() -> list[tuple[Path, ast.Module]]:
    """Return every module of the package with its syntax tree."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [(path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def functions() -> list[Function]:
    """Return every function of the package."""
    found = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                own = sum(parameter.arg not in ("self", "cls", "ctx") for parameter in given)
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                found.append(Function(f"{path}:{node.lineno} {node.name}", lines, own))
    return found


def types_by_name() -> dict[str, list[str]]:
    """Return where each class, type alias and type variable of the package is defined, by its name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{path}:{node.lineno}")
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if name[0].isupper() and not name.isupper():
                    found[name].append(f"{path}:{node.lineno}")
    return found


def files_by_name() -> dict[str, list[str]]:
    """Return the modules of each name, but packages' own `__init__.py` and the pairs of a verb."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, _ in trees():
        if path.name != "__init__.py":
            found[path.name].append(str(path))
    return {name: paths for name, paths in found.items() if {Path(one).parts[1] for one in paths} != set(PAIRED)}


@cache
def vague_names() -> list[str]:
    """Return each variable or parameter whose name says nothing, but fields and comprehensions of one line."""
    found = []
    for path, tree in trees():
        named = [node for node in ast.walk(tree) if _name_given(node) in VAGUE]
        allowed = {id(node) for node in _free_to_be_vague(tree)} if named else set()
        found += [f"{path}:{node.lineno}: {_name_given(node)}" for node in named if id(node) not in allowed]
    return found


def _name_given(node: Any) -> str | None:
    """Return the name that a node gives to a variable or a parameter; None for any other node."""
    if isinstance(node, ast.arg):
        return node.arg
    return node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else None


def _free_to_be_vague(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the variables of comprehensions of one line, and the fields of classes."""
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS) and node.lineno == node.end_lineno:
            yield from (inner for inner in ast.walk(node) if isinstance(inner, ast.Name))
        elif isinstance(node, ast.ClassDef):
            yield from (statement.target for statement in node.body if isinstance(statement, ast.AnnAssign))


@cache
def questions() -> list[str]:
    """Return each docstring that begins with a question word."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return [
        f"{path}:{getattr(node, 'lineno', 1)}: a docstring begins with a question word"
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, documented) and next(iter((ast.get_docstring(node) or "").split()), "") in QUESTIONS
    ]


def lines_of(folder: str, pattern: str) -> int:
    """Return the number of lines of a folder's files."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob(pattern))


def undocumented() -> Iterator[str]:
    """Yield each parameter of the public API that its function's docstring does not name."""
    sys.path.insert(0, str(ROOT))
    import cfbuild
    from cfbuild import api

    for name in cfbuild.__all__:
        value = getattr(api, name) if hasattr(api, name) else getattr(cfbuild, name)
        if inspect.isfunction(value):
            document = inspect.getdoc(value) or ""
            for parameter in inspect.signature(value).parameters:
                if parameter not in document and parameter not in ("lm", "progress"):
                    yield f"cfbuild.{name}: {parameter}"


def beyond(found: list[Function]) -> Iterator[str]:
    """Yield everything beyond a limit."""
    lines = sorted(one.lines for one in found)
    if statistics.median(lines) > MEDIAN_LINES or lines[int(0.9 * len(lines))] > NINETIETH_LINES:
        yield "functions are too long in the median or at the ninetieth percentile"
    for one in found:
        if one.lines > MOST_LINES:
            yield f"{one.place}: {one.lines} lines"
        if one.parameters > MOST_PARAMETERS and not one.place.startswith("cfbuild/cli/"):
            yield f"{one.place}: {one.parameters} parameters"
    for what, named in (("type", types_by_name()), ("file", files_by_name())):
        for name, places in named.items():
            if len(places) > 1:
                yield f"{what} {name}: {', '.join(places)}"
    yield from undocumented()
    yield from questions()
    yield from vague_names()


def main() -> int:
    """Print the figures and what is beyond a limit; return the exit code."""
    found = functions()
    lines = sorted(one.lines for one in found)
    print(f"functions: {len(found)}; lines: median {statistics.median(lines):g} (at most {MEDIAN_LINES}), ", end="")
    print(f"p90 {lines[int(0.9 * len(lines))]} ({NINETIETH_LINES}), max {lines[-1]} ({MOST_LINES})")
    most = max(one.parameters for one in found if not one.place.startswith("cfbuild/cli/"))
    print(f"parameters outside the command line: at most {most} ({MOST_PARAMETERS})")
    twice = [sum(len(places) > 1 for places in named.values()) for named in (types_by_name(), files_by_name())]
    print(f"type names that come twice: {twice[0]}; file names but a verb's pair: {twice[1]}")
    print(f"names that say nothing: {len(vague_names())}; docstrings that ask: {len(questions())}")
    print("lines: " + ", ".join(f"{name} {lines_of(*where):,}" for name, where in MEASURED.items()))
    places = list(beyond(found))
    for place in places:
        print(f"  {place}")
    return bool(places)


if __name__ == "__main__":
    sys.exit(main())
