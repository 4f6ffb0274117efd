"""The parts that self-contained pages share: the files of a page's folder, its templates and its security policy."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from cfbuild.text.safe import visible


def page_part(folder: str, name: str) -> str:
    """Return the text of a file in a page's folder, `folder` a package below `cfbuild.views`."""
    return resources.files(f"cfbuild.views.{folder}").joinpath(name).read_text(encoding="utf-8")


def script_digest(script: str) -> str:
    """Return a script's digest as a content security policy names the only script that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def environment(folder: str) -> Environment:
    """Return the environment of a folder's templates: all text is escaped, and `visible` shows controls."""
    made = Environment(
        loader=FunctionLoader(lambda name: page_part(folder, f"{name}.j2")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["visible"] = visible
    return made
