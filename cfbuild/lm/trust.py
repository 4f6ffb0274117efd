"""The permissions of `--trust` for the model that it names: pickled weights, and code of the model's repository.

Pickled weights are read by torch's reader for weights, which runs no code of a pickle. Code of a repository runs with
the rights of its user. The model that it makes is used as one of the family whose parts it has, once running these
parts has returned the numbers that the code returns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from torch import nn

from cfbuild.errors import ConfigError, ModelError
from cfbuild.lm.families import FAMILIES, VALUE_PROJECTION, Family

CODE = "transformers_modules."
"""The package under which transformers imports a repository's code."""


def is_trusted(model: str, trust: str | None) -> bool:
    """Return whether the user trusts `model`. trust: the value of `--trust`. Raises ConfigError if it names another."""
    if trust not in (None, model):
        raise ConfigError(
            f"--trust {trust}: the model is {model}. --trust allows pickled weights and code of the model it names and "
            "of no other; name that one, if you trust it, or leave --trust out"
        )
    return trust is not None


def refuse_code_elsewhere(location: str, **hub: Any) -> None:
    """Raise ModelError if a model would run code of another repository than its own.

    location: its folder or Hub id. hub: transformers' arguments for reading it.
    """
    from transformers import PreTrainedConfig
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    for settings in (PreTrainedConfig.get_config_dict(location, **hub)[0], get_tokenizer_config(location, **hub)):
        for reference in _texts(settings.get("auto_map")):
            repository, elsewhere, _ = reference.partition("--")
            if elsewhere and repository != location:
                raise ModelError(
                    f"{location}: asks for code of another repository, {repository}, which --trust does not name; "
                    "load that one, or a copy of this one with the code in it"
                )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | Mapping):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def is_own_code(model: nn.Module) -> bool:
    """Return whether a loaded model's class comes from its repository."""
    return type(model).__module__.startswith(CODE)


def family_of_code(model: nn.Module) -> Family:
    """Return the family whose parts a model of a repository's code has. Raises ModelError if no family has them.

    The order of a weight's dimensions is read from the model, and no layer runs fused.
    """
    from transformers.pytorch_utils import Conv1D

    for family in FAMILIES:
        try:
            base = attrgetter(family.base)(model)
            projection = attrgetter(family.parts[VALUE_PROJECTION])(attrgetter(family.layers)(base)[0])
            attrgetter(family.after_layers[0])(base)
        except (AttributeError, IndexError, TypeError):
            continue
        transposed = isinstance(projection, Conv1D)
        return dataclasses.replace(family, projection_is_transposed=transposed, is_llama_like=False)
    paths = dict.fromkeys(f"{of.base}.{of.layers}[i].{of.parts[VALUE_PROJECTION]}" for of in FAMILIES)
    raise ModelError(f"its code names its parts otherwise than any family does; expected one of {', '.join(paths)}")
