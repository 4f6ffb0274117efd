"""The commands that make a build again, from the options of each verb in its manifest.

A manifest names no path of the machine: in place of a user's file or folder it has its name and digest. The commands
expect such a file in the working folder (`./NAME`), and a note gives the beginning of its digest.
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
from cfbuild.templates.own import recalled_name

_LOCAL = re.compile(r"(folder|gguf):([0-9a-f]+)\Z")
"""The revision of a model that was read from the disk: its kind, and its digest."""


@dataclass(slots=True)
class _Command:
    """The words of a command, such as `generate --limit 100`, and notes on what it needs to run."""

    words: list[str]
    notes: list[str] = field(default_factory=list)

    def user_file(self, name: str, what: str, digest: object) -> str:
        """Add a note on a user's file, which `what` describes; return its path in the working folder."""
        self.notes.append(f"{_quoted(name)} in the working folder: {what}, whose sha256 begins {str(digest)[:16]}")
        return f"./{name}"

    def recorded(self, name_and_digest: str, what: str) -> str:
        """Return the path of a user's file that a manifest has as `NAME@DIGEST`; return a bare name as it is."""
        name, digest = recalled_name(name_and_digest)
        return self.user_file(name, what, digest) if digest else name

    def add(self, kind: type, values: Mapping[str, Any]) -> None:
        """Add the options of the dataclass `kind` that differ from their default, and the seed in any case."""
        self.words += arguments(kind, values, always=("seed",))
        for name, value in values_without_option(kind, values).items():
            self.notes.append(f"{name} was {value}, which only Python can set")


def rebuild(verbs: Mapping[str, VerbEntry]) -> Rebuild:
    """Return the commands that run a manifest's verbs again, and the notes on them. `verbs` are entries by name."""
    commands = [MAKERS[verb](verbs[verb].config) for verb in MAKERS if verb in verbs]
    runs = [(*name.partition("/")[::2], entry.config) for name, entry in verbs.items()]
    commands += [_run(*made) for made in runs if made[0] == TRAIN]
    commands += [_run(*made) for made in runs if made[0] in RUNS and made[0] != TRAIN]
    notes = (note for command in commands for note in command.notes)
    return Rebuild(tuple(tuple(command.words) for command in commands), tuple(notes))


def _fetch(config: Mapping[str, Any]) -> _Command:
    command = _Command(["fetch"])
    values = config_values(FetchOptions, config)
    count = values.pop("references", None)
    if count is not None:
        values |= {"references": True, "references_per_object": count}
    spec = SOURCES.get(str(config.get("source")))
    if spec and values.get("endpoint") == spec.options().service:
        values.pop("endpoint", None)
    if values.get("wikipedia") in (None, api_url(str(config.get("language", FetchOptions().language)))):
        values.pop("wikipedia", None)
    if "templates" in values:
        values["templates"] = tuple(command.recorded(name, "a folder of templates") for name in values["templates"])
    if values.get("objects"):
        values["objects"] = command.recorded(values["objects"], "the ids of objects")
    if values.get("dump") and "@" in values["dump"]:
        name, digest = recalled_name(values["dump"])
        command.notes.append(f"{_quoted(name)} in the working folder: the dump, with the samples' digest {digest}")
        values["dump"] = f"./{name}"
    patterns = values.pop("pararel", None)
    if patterns is not None:
        values["pararel"] = patterns if "://" in patterns else command.user_file("pararel", "ParaRel's files", patterns)
    command.add(FetchOptions, values)
    command.notes += _service_notes([config.get(name) for name in ("endpoint", "wikipedia", "pararel")])
    return command


def _service_notes(addresses: list[Any]) -> Iterator[str]:
    """Yield notes on addresses: the contact that public services require, and queries that the manifest lacks."""
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


def _generate(config: Mapping[str, Any]) -> _Command:
    command = _Command(["generate"])
    identity = config.get("model_filter") or {}
    prefixes = config.get("prefixes") or {}
    values = config_values(GenerateOptions, {name: value for name, value in config.items() if name != "prefixes"})
    if "source" in prefixes:
        values["prefixes"] = str(prefixes["source"])
    if values.get("prefixes") == "file":
        name = str(prefixes.get("name", "prefixes.txt"))
        values["prefixes"] = command.user_file(name, "the text that prefixes are cut from", prefixes.get("sha256"))
    if values.get("updates"):
        values["updates"] = command.recorded(values["updates"], "the changes of `cfbuild diff`")
    command.add(FilterChoice, {"no_filter": not identity, **config_values(FilterOptions, identity)})
    command.add(GenerateOptions, values)
    command.add(ModelOptions, _model(command, identity or prefixes))
    return command


def _model(command: _Command, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the model's options from its identity in the manifest; none if no model was loaded."""
    if "model" not in identity:
        return {}
    values = config_values(ModelOptions, identity)
    local = _LOCAL.match(str(values.pop("revision", "")))
    if local is None:
        values["revision"] = None if identity.get("revision") == "unknown" else identity.get("revision")
    elif not (local[1] == "gguf" and values["model"] == ModelOptions().model):
        kind = {"folder": "folder", "gguf": "file"}[local[1]]
        values["model"] = command.user_file(values["model"], f"the model's {kind}", local[2])
    if identity.get("trusted"):
        values["trust"] = values["model"]
    return values


def _run(verb: str, run: str, config: Mapping[str, Any]) -> _Command:
    """Return the command of a verb of RUNS; `run` is the name of what it made."""
    command, kind = _Command([verb]), RUNS[verb]
    values = config_values(kind, {name: value for name, value in config.items() if value is not None})
    if verb == TRAIN:
        for name, suffix in (("records", "jsonl"), ("texts", "txt")):
            if name in values:
                values[name] = command.user_file(f"{name}.{suffix}", f"the {name} of the training", values[name])
    elif run and run != default_name(str(config.get("editor"))):
        values["run"] = run
    if "covariance" in values:
        name, at, digest = str(values["covariance"]).rpartition("@")
        if at and name.startswith(HUB_PREFIX):
            values["covariance"] = name
            command.notes.append(f"{_quoted(name)} was at {digest}")
        elif at:
            values["covariance"] = command.user_file(name, "the file for the covariance", digest)
    command.add(kind, values)
    command.add(ModelOptions, _model(command, config))
    return command


def _quoted(name: str) -> str:
    """Return a name in quotes for a note. Quotes in it are left out; the command has the full name."""
    return "'" + name.replace("'", "") + "'"


RUNS: Mapping[str, type] = {TRAIN: TrainOptions, VERB: EvaluateOptions, ACROSS: AcrossOptions}
"""The options of the verbs of which a manifest has an entry for each run; networks are trained before they are used."""
MAKERS = {"fetch": _fetch, "generate": _generate}
"""The functions that make a command from a config, for the verbs of which a manifest has one entry, in their order."""
