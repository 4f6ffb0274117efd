"""Parts that self-contained pages share: the files of a page's folder, its templates and its security policy."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from cfbuild.text.safe import visible


def page_part(folder: str, name: str) -> str:
    """Return the text of a file in a page's folder, which is below `cfbuild.views`: page or study."""
    return resources.files(f"cfbuild.views.{folder}").joinpath(name).read_text(encoding="utf-8")


def script_digest(script: str) -> str:
    """Return a script's digest in the form of a content security policy, by which no other script may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def environment(folder: str) -> Environment:
    """Return jinja2's environment for a folder's templates: all text is escaped, `visible` shows control characters."""
    made = Environment(
        loader=FunctionLoader(lambda name: page_part(folder, f"{name}.j2")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["visible"] = visible
    return made
