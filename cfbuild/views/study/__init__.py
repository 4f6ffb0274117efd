"""A rater's page: one file that works offline, on a phone and by the keyboard alone; it names no editor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cfbuild.study.answers import LETTERS, OPEN, QUESTIONS, START
from cfbuild.views.html import environment, page_part, script_digest

WORDING = {
    "consistency": (
        "Which passage is most consistent with the statement?",
        "Which passage is least consistent with the statement?",
    ),
    "fluency": ("Which passage is most fluent?", "Which passage is least fluent?"),
}
"""The two questions, for the most and the least, as the paper's study has them."""
HINTS = {
    "consistency": "Consistent: it says nothing that contradicts the statement, taken as true.",
    "fluency": "Fluent: it reads as if a person who knows the language had written it, whatever it says.",
}


@dataclass(frozen=True, slots=True)
class RatedPage:
    """A screen of a rater's page: a statement, and the passages to rate in the order in which they are shown."""

    statement: str
    passages: tuple[str, ...]
    language: str = "en"


def rater_page(study: str, rater: str, pages: Sequence[RatedPage]) -> str:
    """Return the HTML page of a rater. The same pages give the same bytes. study, rater: their names in the code."""
    script = page_part("study", "study.js")
    template = environment("study").get_template("study.html")
    return template.render(
        study=study,
        rater=rater,
        pages=pages,
        letters=LETTERS,
        questions=[(name, WORDING[name], HINTS[name]) for name in QUESTIONS],
        start=START,
        open=OPEN,
        script=Markup(script),
        style=Markup(page_part("study", "study.css")),
        script_hash=script_digest(script),
    )
