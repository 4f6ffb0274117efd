"""Notices of fallbacks, each logged once a process: another device, number format or a slower way than usual."""

from __future__ import annotations

import logging
from functools import lru_cache


@lru_cache(maxsize=1024)
def log_once(message: str, level: int = logging.WARNING) -> None:
    """Log a message to the logger `cfbuild.lm` unless it was logged before. `level`: as in `logging`."""
    logging.getLogger("cfbuild.lm").log(level, message)
