"""Draw which room of the package imports from which: docs/rooms.svg, from the imports themselves.

Run from anywhere: python scripts/draw_rooms.py. A test says when the drawing is out of date.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "rooms.svg"
CELL, LABEL, TOP, MARGIN = 22, 120, 104, 60
"""Sizes in pixels: of a cell, and of the space for names at the left, at the top and at the right."""


def lines() -> list[list[str]]:
    """Return the rooms from the top line to the bottom one, as the contract on imports has them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.findall(r'^  "([\w |]+)",$', text[text.index("exhaustive = true") :].split("]\n", 1)[0], re.MULTILINE)
    return [line.split(" | ") for line in layers if line != "__main__"]


def imported(path: Path) -> Iterator[str]:
    """Yield the rooms that a file imports from, for types alone or not."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if module.startswith("cfbuild."):
                yield module.split(".")[1]
            elif module == "cfbuild" and isinstance(node, ast.ImportFrom):
                yield from (alias.name for alias in node.names)


def uses(room: str) -> set[str]:
    """Return the other rooms from which a room imports."""
    folder = ROOT / "cfbuild" / room
    files = folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
    return {used for path in files for used in imported(path)} - {room}


def picture() -> str:
    """Return the drawing as SVG: a line a room, a dot in the column of each room that it imports from."""
    rooms = [room for line in lines() for room in line]
    side = CELL * len(rooms)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABEL + side + MARGIN} {TOP + side + 8}" '
        f'font-family="sans-serif" font-size="13" role="img">',
        "<title>The rooms of cfbuild: a dot where the room of a line imports from that of a column</title>",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    first = 0
    for line in lines():  # rooms of one line, which do not see each other, stand on one band
        top, height = TOP + CELL * first, CELL * len(line)
        if len(line) > 1:
            parts.append(f'<rect x="0" y="{top}" width="{LABEL + side}" height="{height - 2}" fill="#eef3fa"/>')
        first += len(line)
    for place, room in enumerate(rooms):
        middle = TOP + CELL * place + CELL // 2
        across = LABEL + CELL * place + CELL // 2
        parts.append(f'<text x="{LABEL - 8}" y="{middle + 4}" text-anchor="end">{room}</text>')
        parts.append(f'<text transform="translate({across + 4} {TOP - 8}) rotate(-60)">{room}</text>')
        parts.append(f'<path d="M{LABEL} {middle}H{LABEL + side}M{across} {TOP}V{TOP + side}" stroke="#ddd"/>')
    for place, room in enumerate(rooms):
        middle = TOP + CELL * place + CELL // 2
        columns = sorted(map(rooms.index, uses(room) & set(rooms)))
        parts += [
            f'<circle cx="{LABEL + CELL * column + CELL // 2}" cy="{middle}" r="6" fill="#2a6fb0"/>'
            for column in columns
        ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
