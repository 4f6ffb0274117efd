"""The folder for what cfbuild keeps between builds: converted models, artefacts of editors, measurements."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder `$CFBUILD_CACHE`; if that is not set, `cfbuild` in the user's cache folder."""
    own = os.environ.get("CFBUILD_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cfbuild"
    return Path(own) if own else base
