"""Figures of the house: lengths of functions, their parameters, names that come twice or say nothing, docstrings.

Prints them, and every place beyond a limit; exits with 1 if there is any. Run from anywhere: python scripts/house.py
With paths (python scripts/house.py cfbuild/lm tests) only places under these are printed.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "cfbuild"
WRITTEN = (PACKAGE, "tests", "scripts", "benchmarks")
"""Folders whose names and docstrings are read; lengths and parameters are the package's."""
MEDIAN_LINES, NINETIETH_LINES, MOST_LINES, MOST_PARAMETERS = 12, 25, 60, 6
"""The limits that DESIGN 7 and this project's first issue on its house set."""
PAIRED = ("cli", "pipeline")
"""Rooms in which a verb has a file each, of one name."""
VAGUE = frozenset({"one", "some", "other"})
"""Names of variables that do not say what they hold; a comprehension of one line may have them."""
FROM_NOWHERE = frozenset(
    {"bench", "sheet", "scene", "wanted", "setting", "said", "beside", "beyond", "told", "asked", "stands"}
)
"""Names that only their author understands; nothing may have one."""
QUESTIONS = frozenset({"What", "Which", "Where", "How", "Whether"})
"""First words of docstrings that describe and do not tell what to do."""
NO_IMPERATIVES = QUESTIONS | {"The", "A", "An", "True", "False", "False:"}
"""First words that a function's docstring may not have."""
MEASURED = {"package": (PACKAGE, "*.py"), "tests": ("tests", "*.py"), "docs": ("docs", "*.md")}
WITH_MANY_PARAMETERS = ("cfbuild/cli/", "cfbuild/lm/triton_kernels.py")
"""Where a function may have more parameters: a verb's options are some, and a kernel gets no object, only numbers."""
COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
GLOSSARY = ROOT / "docs" / "glossary.md"
GLOSSARY_PARAMETER = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)


class Function(NamedTuple):
    """A function or method: where it is, its syntax tree, and the class or module around it (None: a function)."""

    place: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    owner: ast.ClassDef | ast.Module | None

    @property
    def lines(self) -> int:
        """Return the number of its lines."""
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1

    @property
    def parameters(self) -> list[ast.arg]:
        """Return its parameters without `self`, `cls` and `ctx`."""
        given = [*self.node.args.posonlyargs, *self.node.args.args, *self.node.args.kwonlyargs]
        return [parameter for parameter in given if parameter.arg not in ("self", "cls", "ctx")]

    @property
    def public(self) -> bool:
        """Return whether it is no other function's, and its name and its class's begin without an underscore."""
        owner = self.owner.name if isinstance(self.owner, ast.ClassDef) else ""
        return self.owner is not None and not (self.node.name.startswith("_") or owner.startswith("_"))


@cache
def trees(folder: str = PACKAGE) -> list[tuple[Path, ast.Module]]:
    """Return every module of a folder with its syntax tree."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [(path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def written() -> list[tuple[Path, ast.Module]]:
    """Return every module that somebody wrote, with its syntax tree."""
    return [module for folder in WRITTEN for module in trees(folder)]


@cache
def functions() -> list[Function]:
    """Return every function of the package."""
    found = []
    for path, tree in trees():
        around = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.Module)]
        owners = {id(child): node for node in around for child in node.body}
        found += [
            Function(f"{path}:{node.lineno} {node.name}", node, owners.get(id(node)))
            for node in ast.walk(tree)
            if isinstance(node, FUNCTIONS)
        ]
    return found


@cache
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
    return {name: paths for name, paths in found.items() if {Path(path).parts[1] for path in paths} != set(PAIRED)}


@cache
def vague_names() -> list[str]:
    """Return each variable or parameter whose name says nothing, but fields and comprehensions of one line."""
    found = []
    for path, tree in written():
        named = [node for node in ast.walk(tree) if _variable(node) in VAGUE]
        allowed = {id(node) for node in _free_to_be_vague(tree)} if named else set()
        found += [f"{path}:{node.lineno}: {_variable(node)}" for node in named if id(node) not in allowed]
    return found


@cache
def names_from_nowhere() -> list[str]:
    """Return each variable, parameter, function or class that has a name of FROM_NOWHERE."""
    found = []
    for path, tree in written():
        for node in ast.walk(tree):
            name = node.name if isinstance(node, FUNCTIONS | ast.ClassDef) else _variable(node)
            if name is not None and name.strip("_").lower() in FROM_NOWHERE:
                found.append(f"{path}:{node.lineno}: {name}")
    return found


def _variable(node: Any) -> str | None:
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
    """Return each docstring that begins with a question word, and each function's that begins with no verb."""
    found = []
    for path, tree in written():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | FUNCTIONS):
                first = next(iter((ast.get_docstring(node) or "").split()), "")
                if first in (NO_IMPERATIVES if isinstance(node, FUNCTIONS) else QUESTIONS):
                    found.append(f"{path}:{getattr(node, 'lineno', 1)}: a docstring begins with {first!r}")
    return found


@cache
def undocumented() -> list[str]:
    """Return each public function without a docstring, and each parameter of theirs that nothing explains.

    A parameter is explained by its function's or its class's docstring, which names it, by its type, where that is a
    class of the package, or by the glossary's table of parameters.
    """
    known = set(GLOSSARY_PARAMETER.findall(GLOSSARY.read_text(encoding="utf-8")))
    found = []
    for function in functions():
        if not function.public or _is_declaration(function) or function.place.startswith("cfbuild/cli/"):
            continue
        documents = [ast.get_docstring(node) or "" for node in (function.node, function.owner) if node is not None]
        if documents[0]:
            words = known.union(*(re.findall(r"\w+", document) for document in documents))
            found += [
                f"{function.place}: nothing explains `{parameter.arg}`"
                for parameter in function.parameters
                if parameter.arg not in words and not _types(parameter) & types_by_name().keys()
            ]
        elif not (isinstance(function.owner, ast.ClassDef) and function.owner.bases):
            found.append(f"{function.place}: no docstring, and no base class that may have it")
    return found


def _is_declaration(function: Function) -> bool:
    """Return whether a function only declares what others implement: its body is an ellipsis."""
    last = function.node.body[-1]
    return isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant) and last.value.value is ...


def _types(parameter: ast.arg) -> set[str]:
    """Return the names in a parameter's annotation."""
    return set(re.findall(r"\w+", ast.unparse(parameter.annotation))) if parameter.annotation else set()


def lines_of(folder: str, pattern: str) -> int:
    """Return the number of lines of a folder's files."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / folder).rglob(pattern))


def beyond_limits() -> Iterator[str]:
    """Yield everything beyond a limit."""
    lines = sorted(function.lines for function in functions())
    if statistics.median(lines) > MEDIAN_LINES or lines[int(0.9 * len(lines))] > NINETIETH_LINES:
        yield "functions are too long in the median or at the ninetieth percentile"
    for function in functions():
        if function.lines > MOST_LINES:
            yield f"{function.place}: {function.lines} lines"
        if len(function.parameters) > MOST_PARAMETERS and not function.place.startswith(WITH_MANY_PARAMETERS):
            yield f"{function.place}: {len(function.parameters)} parameters"
    for what, named in (("type", types_by_name()), ("file", files_by_name())):
        for name, places in named.items():
            if len(places) > 1:
                yield f"{what} {name}: {', '.join(places)}"
    for found in (undocumented, questions, vague_names, names_from_nowhere):
        yield from found()


def main(only: list[str]) -> int:
    """Print the figures and what is beyond a limit, under the paths `only` if any; return the exit code."""
    lines = sorted(function.lines for function in functions())
    print(f"functions: {len(lines)}; lines: median {statistics.median(lines):g} (at most {MEDIAN_LINES}), ", end="")
    print(f"p90 {lines[int(0.9 * len(lines))]} ({NINETIETH_LINES}), max {lines[-1]} ({MOST_LINES})")
    most = max(len(one.parameters) for one in functions() if not one.place.startswith(WITH_MANY_PARAMETERS))
    print(f"parameters outside the command line and kernels: at most {most} ({MOST_PARAMETERS})")
    twice = [sum(len(places) > 1 for places in named.values()) for named in (types_by_name(), files_by_name())]
    print(f"type names that come twice: {twice[0]}; file names but a verb's pair: {twice[1]}")
    print(f"names that say nothing: {len(vague_names())}; names from nowhere: {len(names_from_nowhere())}")
    print(f"docstrings that begin with a question or without a verb: {len(questions())}")
    print(f"public functions and parameters that nothing explains: {len(undocumented())}")
    print("lines: " + ", ".join(f"{name} {lines_of(*where):,}" for name, where in MEASURED.items()))
    places = [place for place in beyond_limits() if not only or place.startswith(tuple(only))]
    for place in places:
        print(f"  {place}")
    print(f"beyond a limit: {len(places)}" if places else "all within the limits")
    return bool(places)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
