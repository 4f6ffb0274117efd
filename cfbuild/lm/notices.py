"""Notices that a model runs otherwise than usual (device, number format, speed), each logged once a process."""

from __future__ import annotations

import logging
from functools import lru_cache


@lru_cache(maxsize=1024)
def log_once(message: str, level: int = logging.WARNING) -> None:
    """Log a message to the logger `cfbuild.lm` unless it was logged before; `level` is one of `logging`'s."""
    logging.getLogger("cfbuild.lm").log(level, message)
