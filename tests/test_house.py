"""The drawing of the rooms; the other figures of the house are held by `make check` (scripts/house.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def test_the_drawing_of_the_rooms_is_that_of_the_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import draw_rooms

    assert draw_rooms.PICTURE.read_text(encoding="utf-8") == draw_rooms.picture(), "run python scripts/draw_rooms.py"
