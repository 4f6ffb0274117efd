"""`cfbuild fetch`: facts, entities and templates from a source and template sets into the build folder.

Everything asked over the network goes through a journal in the build folder, so an interrupted fetch goes on where it
stopped, and one whose files were deleted writes the same bytes again without asking anything.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfbuild.data import Template, id_number
from cfbuild.errors import DataError
from cfbuild.pipeline.fetch.options import (
    SOURCES,
    FetchOptions,
    checked,
    chosen_relations,
    contact_of,
    is_own,
    manifest_config,
)
from cfbuild.pipeline.fetch.rows import Work, write_entities, write_facts, write_references
from cfbuild.progress import Progress, silent
from cfbuild.sources import http, pararel, wikidata
from cfbuild.sources.journal import Asker, Journal
from cfbuild.sources.source import FactSource, Wanted
from cfbuild.store.codec import encode_template
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import write_jsonl
from cfbuild.templates import builtin, own
from cfbuild.templates.patterns import Refusal
from cfbuild.templates.patterns import templates as pararel_templates

__all__ = ["FetchOptions", "FetchSummary", "fetch"]

VERB = "fetch"
JOURNAL = "answers.journal"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FetchSummary:
    """What a fetch put into the build, and what it left out, by reason. `sent` and `waited_s` are of this run alone."""

    facts: dict[str, int]
    entities: int
    templates: dict[str, int]
    left_out: dict[str, int]
    templates_left_out: dict[str, int]
    refusals: tuple[Refusal, ...] = ()
    sent: int = 0
    waited_s: float = 0.0
    unchanged: bool = False
    references: int | None = None
    retrieved: tuple[str, str] | None = None


def fetch(folder: BuildFolder, options: FetchOptions, progress: Progress = silent) -> FetchSummary:
    """Write facts.jsonl, entities.jsonl and templates.jsonl; do nothing if they stand, made with these options.

    Takes the build's lock. Raises ConfigError for options that do not fit together, BuildStateError for a build made
    with others, DataError for a broken local file, and SourceError (resumable) for a source that could not be read.
    """
    options = checked(options)
    relations = chosen_relations(options)
    config = manifest_config(options, relations)
    with folder.lock(VERB):
        if not folder.begin(VERB, config, restart=options.restart):
            return _standing(folder)
        return _fetch(folder, options, relations, config, progress)


def _fetch(
    folder: BuildFolder,
    options: FetchOptions,
    relations: tuple[str, ...],
    config: dict[str, Any],
    progress: Progress,
) -> FetchSummary:
    path = folder.progress(VERB)
    _sweep(path)
    with (
        http.Client(contact_of(options), timeout_s=options.timeout_s, attempts=options.attempts) as client,
        Journal(path / JOURNAL) as journal,
    ):
        work = Work(path, Asker(client, journal), relations, progress)
        templates, refusals = _templates(options, work)
        source = _source(options, work)
        rows = {
            "facts.jsonl": write_facts(work, source),
            "entities.jsonl": write_entities(work, source),
            "templates.jsonl": write_jsonl(path / "templates.jsonl", map(encode_template, templates)),
        }
        if options.references is not None:
            rows["references.jsonl"] = write_references(work, options, options.references, source.tally)
        summary = FetchSummary(
            facts={relation: work.facts[relation] for relation in relations},
            entities=rows["entities.jsonl"],
            templates=dict(Counter(template.relation for template in templates)),
            left_out=dict(sorted(source.tally.left_out.items())),
            templates_left_out=dict(sorted(Counter(refusal.reason for refusal in refusals).items())),
            refusals=refusals,
            sent=client.sent,
            waited_s=client.waited_s,
            references=rows.get("references.jsonl"),
            retrieved=journal.retrieved(),
        )
        facts = _entered(summary, journal)
    for name in rows:
        (path / name).replace(folder.path(name))
    folder.finish(VERB, config, rows, facts)
    return summary


def _entered(summary: FetchSummary, journal: Journal) -> dict[str, Any]:
    """What the manifest keeps: nothing that depends on how often the fetch was interrupted."""
    first, last = summary.retrieved or (None, None)
    return {
        "facts": summary.facts,
        "entities": summary.entities,
        "templates": summary.templates,
        "left_out": summary.left_out,
        "templates_left_out": summary.templates_left_out,
        **({} if summary.references is None else {"references": summary.references}),
        "answers": {"count": journal.used, "sha256": journal.digest()},
        "retrieved": {"first": first, "last": last},
    }


def _standing(folder: BuildFolder) -> FetchSummary:
    entry = folder.manifest()["verbs"][VERB]
    if not entry.keys() >= {"facts", "entities", "templates", "left_out", "templates_left_out", "retrieved"}:
        raise DataError(f"the manifest does not say what `cfbuild {VERB}` counted; use --restart to do it again")
    first, last = entry["retrieved"]["first"], entry["retrieved"]["last"]
    return FetchSummary(
        facts=entry["facts"],
        entities=entry["entities"],
        templates=entry["templates"],
        left_out=entry["left_out"],
        templates_left_out=entry["templates_left_out"],
        unchanged=True,
        references=entry.get("references"),
        retrieved=(first, last) if first else None,
    )


def _sweep(path: Path) -> None:
    """Remove what a killed run was writing; its journal stays."""
    for part in path.glob(".*.part"):
        part.unlink()


def _source(options: FetchOptions, work: Work) -> FactSource:
    wanted = Wanted(
        asker=work.asker,
        language=wikidata.language_code(options.language),
        per_relation=options.per_relation,
        seed=options.seed,
        endpoint=options.endpoint,
        location=options.pararel,
        statements=options.statements,
    )
    return SOURCES[options.source](wanted)


def _templates(options: FetchOptions, work: Work) -> tuple[list[Template], tuple[Refusal, ...]]:
    """The templates of every set, each text once a relation (the first set's), and ParaRel's patterns that are none."""
    found: dict[tuple[str, str, str], Template] = {}
    refused: list[Refusal] = []
    files = pararel.Files(options.pararel, work.asker) if "pararel" in options.templates else None
    for relation in work.relations:
        for name in options.templates:
            if name == "builtin":
                kept = tuple(builtin.templates(relation))
            elif is_own(name):
                kept = own.templates(Path(name), relation)
            elif files is not None:
                kept, refusals = pararel_templates(relation, files.patterns(relation))
                refused.extend(refusals)
            for template in kept:
                found.setdefault((template.relation, template.kind, template.text), template)
        if not any(key[0] == relation for key in found):
            _log.warning(
                "%s has no template; its facts can be rewritten only with templates of your own (--templates FOLDER)",
                relation,
            )
    return sorted(found.values(), key=_template_order), tuple(refused)


def _template_order(template: Template) -> tuple[int, bool, str]:
    return id_number(template.relation), template.kind != "rewrite", template.text
