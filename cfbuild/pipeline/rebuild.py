"""The commands that make a build again, from the options of each verb in its manifest.

A manifest's config is an options value without what names this machine: in place of a user's file or folder it has the
name and digest. The commands expect such a file in the working folder (`./NAME`), and a note gives the digest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cfbuild.edit.corpus import HUB_PREFIX
from cfbuild.filter.thresholds import FilterChoice, FilterOptions
from cfbuild.lm.selection import ModelOptions
from cfbuild.option import arguments, config_values, values_without_option
from cfbuild.pipeline.across import VERB as ACROSS
from cfbuild.pipeline.across import AcrossOptions
from cfbuild.pipeline.fetch import FetchOptions
from cfbuild.pipeline.generate import GenerateOptions
from cfbuild.pipeline.train_editor import VERB as TRAIN
from cfbuild.pipeline.train_editor import TrainOptions
from cfbuild.pipeline.validate_and_score import EvaluateOptions
from cfbuild.publish.card import Rebuild
from cfbuild.sources.address import is_public
from cfbuild.sources.catalogue import SOURCES
from cfbuild.sources.http import CONTACT_VARIABLE
from cfbuild.sources.wikipedia import api_url
from cfbuild.store.manifest import VerbEntry
from cfbuild.store.runs import VERB, default_name
from cfbuild.templates.sets import recalled_name

_LOCAL = re.compile(r"(folder|gguf):([0-9a-f]+)\Z")
"""The revision of a model that was read from the disk: its kind, and its digest."""


@dataclass(slots=True)
class _Recalled:
    """The words of a command, and notes on what it needs to run."""

    words: list[str]
    notes: list[str] = field(default_factory=list)

    def own(self, name: str, what: str, digest: object) -> str:
        """Return the name by which the command finds a user's file in the working folder, and add a note on the file.

        what: a description of the file, for the note.
        """
        self.notes.append(f"{_quoted(name)} in the working folder: {what}, whose sha256 begins {str(digest)[:16]}")
        return f"./{name}"

    def add(self, kind: type, values: Mapping[str, Any]) -> None:
        """Add the options of `kind` with their values by name to the command; the seed also if it is the default."""
        self.words += arguments(kind, values, always=("seed",))
        for name, value in values_without_option(kind, values).items():
            self.notes.append(f"{name} was {value}, which only Python can set")


def rebuild(verbs: Mapping[str, VerbEntry]) -> Rebuild:
    """Return the commands for a manifest's verbs that can be run again, and the notes on them."""
    recalled = [RECALLED[verb](verbs[verb].config) for verb in RECALLED if verb in verbs]
    recalled += [_train(entry.config) for name, entry in verbs.items() if name.partition("/")[0] == TRAIN]
    for entry in verbs:
        verb, _, run = entry.partition("/")
        if verb in SCORED:
            config = verbs[entry].config
            recalled.append(_score(verb, config, run or default_name(str(config.get("editor")))))
    return Rebuild(
        tuple(tuple(each.words) for each in recalled), tuple(note for each in recalled for note in each.notes)
    )


def _fetch(config: Mapping[str, Any]) -> _Recalled:
    recalled = _Recalled(["fetch"])
    values = config_values(FetchOptions, config)
    count = values.pop("references", None)
    if count is not None:
        values |= {"references": True, "references_per_object": count}
    spec = SOURCES.get(str(config.get("source")))
    if spec and values.get("endpoint") == spec.options().service:
        del values["endpoint"]
    if values.get("wikipedia") in (None, _usual_wikipedia(config)):
        values.pop("wikipedia", None)
    if "templates" in values:
        values["templates"] = tuple(_template_set(recalled, name) for name in values["templates"])
    if values.get("objects"):
        values["objects"] = recalled.own(*_recalled_file(values["objects"], "the ids of objects"))
    if values.get("dump") and "@" in values["dump"]:
        name, digest = recalled_name(values["dump"])
        recalled.notes.append(f"{_quoted(name)} in the working folder: the dump, with the samples' digest {digest}")
        values["dump"] = f"./{name}"
    patterns = values.pop("pararel", None)
    if patterns is not None:
        values["pararel"] = patterns if "://" in patterns else recalled.own("pararel", "ParaRel's files", patterns)
    recalled.add(FetchOptions, values)
    recalled.notes += _about_services([config.get(name) for name in ("endpoint", "wikipedia", "pararel")])
    return recalled


def _usual_wikipedia(config: Mapping[str, Any]) -> str:
    return api_url(str(config.get("language", FetchOptions().language)))


def _recalled_file(recorded_as: str, what: str) -> tuple[str, str, str]:
    name, digest = recalled_name(recorded_as)
    return name, what, digest


def _template_set(recalled: _Recalled, recorded_as: str) -> str:
    name, digest = recalled_name(recorded_as)
    return recalled.own(name, "a folder of templates", digest) if digest else name


def _about_services(addresses: list[Any]) -> Iterator[str]:
    """Yield notes on addresses: a contact that they need, a query that the manifest does not keep."""
    urls = [address for address in addresses if isinstance(address, str) and "://" in address]
    if any(map(_is_public, urls)):
        yield f"public services are told who asks: set {CONTACT_VARIABLE} to an e-mail address or a web page"
    if any("?sha256-" in url for url in urls):
        yield "the query of an address is kept as a digest alone: put it in again"


def _is_public(url: str) -> bool:
    try:
        return is_public(url) and bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _generate(config: Mapping[str, Any]) -> _Recalled:
    recalled = _Recalled(["generate"])
    judge = config.get("model_filter") or {}
    prefixes = config.get("prefixes") or {}
    values = config_values(GenerateOptions, {name: value for name, value in config.items() if name != "prefixes"})
    if "source" in prefixes:
        values["prefixes"] = _prefixes(recalled, prefixes)
    if values.get("updates"):
        values["updates"] = recalled.own(*_recalled_file(values["updates"], "the changes of `cfbuild diff`"))
    recalled.add(FilterChoice, {"no_filter": not judge, **config_values(FilterOptions, judge)})
    recalled.add(GenerateOptions, values)
    recalled.add(ModelOptions, _model(recalled, judge or prefixes))
    return recalled


def _prefixes(recalled: _Recalled, prefixes: Mapping[str, Any]) -> str:
    if prefixes["source"] != "file":
        return str(prefixes["source"])
    name = str(prefixes.get("name", "prefixes.txt"))
    return recalled.own(name, "the text that prefixes are cut from", prefixes.get("sha256"))


def _model(recalled: _Recalled, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the model's options from its identity; none if no model was loaded."""
    if "model" not in identity:
        return {}
    values = config_values(ModelOptions, identity)
    local = _LOCAL.match(str(values.pop("revision", "")))
    if local is None:
        values["revision"] = None if identity.get("revision") == "unknown" else identity.get("revision")
    elif not (local[1] == "gguf" and values["model"] == ModelOptions().model):
        values["model"] = recalled.own(values["model"], f"the model's {FILES[local[1]]}", local[2])
    if identity.get("trusted"):
        values["trust"] = values["model"]
    return values


FILES = {"folder": "folder", "gguf": "file"}
"""The word for a model on the disk, by the kind of its revision."""


def _train(config: Mapping[str, Any]) -> _Recalled:
    recalled = _Recalled([TRAIN])
    values = config_values(TrainOptions, {name: value for name, value in config.items() if value is not None})
    for name, what in (("records", "the records of the training"), ("texts", "the texts of the training")):
        if name in values:
            values[name] = recalled.own(f"{name}.jsonl" if name == "records" else f"{name}.txt", what, values[name])
    recalled.add(TrainOptions, values)
    recalled.add(ModelOptions, _model(recalled, config))
    return recalled


def _score(verb: str, config: Mapping[str, Any], run: str) -> _Recalled:
    recalled, kind = _Recalled([verb]), SCORED[verb]
    values = config_values(kind, {name: value for name, value in config.items() if value is not None})
    if run != default_name(str(config.get("editor"))):
        values["run"] = run
    if "covariance" in values:
        name, at, digest = str(values["covariance"]).rpartition("@")
        if at and name.startswith(HUB_PREFIX):
            values["covariance"] = name
            recalled.notes.append(f"{_quoted(name)} was at {digest}")
        elif at:
            values["covariance"] = recalled.own(name, "the file for the covariance", digest)
    recalled.add(kind, values)
    recalled.add(ModelOptions, _model(recalled, config))
    return recalled


def _quoted(name: str) -> str:
    """Return a name in quotes for a comment; quotes in it are left out, since the command has the full name."""
    return "'" + name.replace("'", "") + "'"


SCORED: Mapping[str, type] = {VERB: EvaluateOptions, ACROSS: AcrossOptions}
"""The options of the verbs that edit and score, whose entries are a run each."""
RECALLED = {"fetch": _fetch, "generate": _generate}
"""The functions that make a command from a config, for the verbs that a build has once, in the order of their runs."""
