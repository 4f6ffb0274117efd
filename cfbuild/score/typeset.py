"""The table of runs as Markdown and LaTeX with booktabs: best figures bold, failed ones in italics or underlined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from cfbuild.score.marks import BEST, FAILING, SIGNS
from cfbuild.score.table import TITLE, Block, Cell, RowLine, ScoreTable

_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


def as_markdown(table: ScoreTable) -> str:
    """Return the table as Markdown: a table for each block, then the remarks as a list."""
    parts = ["\n".join(_markdown(block)) for block in table.blocks()]
    if table.remarks:
        parts.append("\n".join(f"- {plain(remark)}" for remark in table.remarks))
    return "\n\n".join(parts)


def _markdown(block: Block) -> Iterator[str]:
    if block.title:
        yield f"{block.title[0].upper()}{block.title[1:]}:\n"
    heads = [plain(head.replace("_", " ")) for head in (*block.heads, *block.columns)]
    yield bars(heads)
    yield bars(["---", *("---:" for _ in heads[1:])])
    for line in block.lines:
        yield bars([*map(plain, line.labels), *map(_markdown_cell, line.cells)])


def bars(cells: list[str]) -> str:
    """Return cells of Markdown as a row of a table."""
    return f"| {' | '.join(cells)} |"


def plain(text: str) -> str:
    """Return the text with Markdown's signs escaped, those of a table's cells too."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#~" else sign for sign in text)


def _markdown_cell(cell: Cell) -> str:
    shown = f"**{cell.text}**" if cell.mark == BEST else f"*{cell.text}*" if cell.mark == FAILING else cell.text
    return shown + plain(SIGNS[cell.mark])


def as_latex(table: ScoreTable) -> str:
    """Return the table as LaTeX with booktabs: a `table` for each block, the remarks below the last."""
    caption = f"{', '.join(table.models)}: {TITLE}"
    blocks = list(table.blocks())
    parts = ["% \\usepackage{booktabs}"]
    for place, block in enumerate(blocks):
        notes = table.remarks if place + 1 == len(blocks) else ()
        parts.append("\n".join(_latex(block, caption if place == 0 else block.title or caption, notes)))
    return "\n\n".join(parts)


def _latex(block: Block, caption: str, notes: tuple[str, ...]) -> Iterator[str]:
    yield f"\\begin{{table}}\n\\centering\n\\caption{{{_tex(caption)}}}"
    yield f"\\begin{{tabular}}{{l{'r' * (len(block.heads) + len(block.columns) - 1)}}}\n\\toprule"
    yield _ampersands([_tex(head.replace("_", " ")) for head in (*block.heads, *block.columns)])
    yield "\\midrule"
    for line, following in zip(block.lines, (*block.lines[1:], None), strict=True):
        yield _ampersands([*map(_tex, line.labels), *map(_latex_cell, line.cells)])
        if following is not None and _is_unedited(line) != _is_unedited(following):
            yield "\\midrule"
    yield "\\bottomrule\n\\end{tabular}"
    yield from (f"\\par\\footnotesize {_tex(note)}" for note in notes)
    yield "\\end{table}"


def _is_unedited(line: RowLine) -> bool:
    return line.row.run is None


def _ampersands(cells: list[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _tex(text: str) -> str:
    return text.translate(_TEX)


def _latex_cell(cell: Cell) -> str:
    """Return a figure in math mode, for its minus: the mean bold if it is the best, underlined if it has failed."""
    if not cell.text:
        return ""
    mean, _, width = cell.text.partition(" ± ")
    marked = {BEST: f"\\mathbf{{{mean}}}", FAILING: f"\\underline{{{mean}}}"}.get(cell.mark, mean)
    return f"${marked} \\pm {width}$" if width else f"${marked}$"


FORMATS: Mapping[str, Callable[[ScoreTable], str]] = {"markdown": as_markdown, "latex": as_latex}
"""The formats of a table for documents, by the name that `--format` takes."""
