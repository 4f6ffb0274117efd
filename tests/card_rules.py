"""The Hub's objections to a dataset card's metadata, as far as its documentation and its quoted answers tell.

The specification of cards and the list of licences are in the Hub's documentation; the lists of languages, creators and
sizes are those that `datasets` carries for the same purpose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LICENCES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1
lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl
lgpl-lr deepfloyd-if-license llama2 gemma unknown other
"""
TASKS = {"text-generation", "question-answering", "text-classification", "fill-mask", "other"}
"""Some of the tasks that the Hub lists; it warns of any other."""
SPECIAL = {"code", "multilingual"}
CHECKED = {
    "annotations_creators": ("creators", "annotations"),
    "language_creators": ("creators", "language"),
    "multilinguality": ("multilingualities", None),
    "size_categories": ("size_categories", None),
}
"""By key: the file of `datasets` with the allowed values, and the part of it that has them."""


@cache
def resource(name: str) -> Any:
    spec = find_spec("datasets")
    assert spec is not None and spec.origin is not None
    file = Path(spec.origin).parent / "utils" / "resources" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))


def errors(card: Any) -> list[str]:
    """Return the messages for which a card is refused; `card` is its metadata as YAML gives it."""
    if not isinstance(card, dict):
        return ['"card" must be of type object']
    return [*_languages(card), *_licences(card), *_listed(card), *_texts(card), *_configs(card)]


def warnings(card: Any) -> list[str]:
    """Return the warnings about a card that is accepted but not understood in full."""
    if not card:
        return ["empty or missing yaml metadata in repo card"]
    unknown = [one for one in _several(card.get("task_categories", [])) if one not in TASKS]
    return [f'The task_categories "{one}" is not in the official list' for one in unknown]


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _named(card: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    """Yield each value under a key, with the name that messages give it."""
    value = card.get(key, [])
    for place, item in enumerate(_several(value)):
        yield f"{key}[{place}]" if isinstance(value, list) else key, item


def _languages(card: dict[str, Any]) -> Iterator[str]:
    for name, language in _named(card, "language"):
        if language not in SPECIAL and language not in resource("languages"):
            yield (
                f'"{name}" with value "{language}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code '
                '(two/three letters), or a special value like "code", "multilingual". If you want to use BCP-47 '
                "identifiers, you can specify them in language_bcp47."
            )


def _licences(card: dict[str, Any]) -> Iterator[str]:
    for name, licence in _named(card, "license"):
        if licence not in LICENCES.split():
            yield f'"{name}" must be one of [{", ".join(LICENCES.split())}]'


def _listed(card: dict[str, Any]) -> Iterator[str]:
    for key, (file, part) in CHECKED.items():
        allowed = resource(file)[part] if part else resource(file)
        for name, item in _named(card, key):
            if item not in allowed:
                yield f'"{name}" must be one of [{", ".join(allowed)}]'


def _texts(card: dict[str, Any]) -> Iterator[str]:
    for key in ("tags", "language_bcp47", "source_datasets"):
        if not isinstance(card.get(key, []), list):
            yield f'"{key}" must be an array'
        elif not all(isinstance(one, str) and one for one in card.get(key, [])):
            yield f'"{key}" must be an array of strings'
    if not isinstance(card.get("pretty_name", ""), str):
        yield '"pretty_name" must be a string'


def _configs(card: dict[str, Any]) -> Iterator[str]:
    configs = card.get("configs", [])
    for place, config in enumerate(configs):
        if not re.fullmatch(r'[^<>:/\\|?*"]+', str(config.get("config_name", ""))):
            yield f'"configs[{place}].config_name" is not valid'
        for file in config.get("data_files", []):
            if file.keys() != {"split", "path"} or not re.fullmatch(r"\w+(\.\w+)*", file["split"]):
                yield f'"configs[{place}].data_files" is not valid'
    if sum(bool(config.get("default")) for config in configs) > 1:
        yield '"configs" has several defaults'
