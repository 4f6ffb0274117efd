"""`cfbuild fetch`: facts, entities and templates from a source and template sets into the build folder.

Everything asked over the network goes through a journal in the build folder, so an interrupted fetch goes on where it
stopped, and one whose files were deleted writes the same bytes again without asking anything.
"""

from __future__ import annotations

import heapq
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from cfbuild.codec import decode_entity, decode_fact, encode_entity, encode_fact, encode_reference, encode_template
from cfbuild.data import Entity, Progress, Template, property_id, silent
from cfbuild.errors import ConfigError, DataError, SourceError
from cfbuild.jsonl import read_values, write_jsonl
from cfbuild.pipeline.folder import BuildFolder
from cfbuild.sources import http, pararel, wikidata, wikipedia
from cfbuild.sources.journal import Asker, Journal
from cfbuild.sources.snapshot import Snapshot
from cfbuild.sources.source import Source, Tally, Wanted, local_path
from cfbuild.sources.sparql import Endpoint
from cfbuild.templates import folder as own
from cfbuild.templates.pararel import Refusal
from cfbuild.templates.pararel import templates as pararel_templates

VERB = "fetch"
JOURNAL = "answers.journal"
LEVELS = 12
"""How far containers are followed: a village lies in some six places, a profession in some ten broader classes."""
CONTACT_VARIABLE = "CFBUILD_CONTACT"

SOURCES = {
    "wikidata": "cfbuild.sources.wikidata:load",
    "pararel": "cfbuild.sources.pararel:load",
    "snapshot": "cfbuild.sources.snapshot:load",
}
"""Where facts come from: name -> "module:function", called with `Wanted`, returning a `Source`."""

TEMPLATE_SETS = ("builtin", "pararel")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FetchOptions:
    """What to fetch and from where. `relations` None means all that have templates; `per_relation` None, all facts.

    `endpoint` is a preset's name or a URL; None means Wikidata's for the source `wikidata`, and none for `pararel`.
    `templates` are names of sets, or folders with files of one's own. `pararel` is a folder or a raw URL. `contact`
    None means the environment's CFBUILD_CONTACT. `statements` asks Wikidata for ranks, dates, redirects and revisions
    too. `references` is how many lead texts to get from Wikipedia for each relation and object (None: none),
    `wikipedia` the address of its API, None that of the language's.
    """

    source: str = "wikidata"
    endpoint: str | None = None
    relations: tuple[str, ...] | None = None
    language: str = "en"
    per_relation: int | None = None
    seed: int = 0
    templates: tuple[str, ...] = ("builtin",)
    pararel: str = pararel.PARAREL
    contact: str | None = None
    timeout_s: float = http.TIMEOUT_S
    attempts: int = http.ATTEMPTS
    statements: bool = False
    references: int | None = None
    wikipedia: str | None = None
    restart: bool = False


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


@dataclass
class _Work:
    """One run: the folder it writes into before its files are put in place, and what it has counted."""

    path: Path
    asker: Asker
    relations: tuple[str, ...]
    progress: Progress
    facts: Counter[str] = field(default_factory=Counter)
    items: set[str] = field(default_factory=set)


def fetch(folder: BuildFolder, options: FetchOptions, progress: Progress = silent) -> FetchSummary:
    """Write facts.jsonl, entities.jsonl and templates.jsonl; do nothing if they stand, made with these options.

    Takes the build's lock. Raises ConfigError for options that do not fit together, BuildStateError for a build made
    with others, DataError for a broken local file, and SourceError (resumable) for a source that could not be read.
    """
    options = _checked(options)
    relations = _relations(options)
    config = _config(options, relations)
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
        http.Client(_contact(options), timeout_s=options.timeout_s, attempts=options.attempts) as client,
        Journal(path / JOURNAL) as journal,
    ):
        work = _Work(path, Asker(client, journal), relations, progress)
        templates, refusals = _templates(options, work)
        source = _source(options, work)
        rows = {
            "facts.jsonl": _write_facts(work, source),
            "entities.jsonl": _write_entities(work, source),
            "templates.jsonl": write_jsonl(path / "templates.jsonl", map(encode_template, templates)),
        }
        if options.references is not None:
            rows["references.jsonl"] = _write_references(work, options, options.references, source.tally)
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


def _checked(options: FetchOptions) -> FetchOptions:
    _known(options.source, SOURCES, "source")
    for name in options.templates:
        if not Path(name).is_dir():
            _known(name, TEMPLATE_SETS, "template set or folder")
    if not options.templates:
        raise ConfigError(f"no template set is named; expected some of {', '.join(TEMPLATE_SETS)}")
    if options.per_relation is not None and options.per_relation < 1:
        raise ConfigError(f"per relation {options.per_relation}: expected at least 1 fact a relation")
    if options.timeout_s <= 0 or options.attempts < 1:
        raise ConfigError("expected a timeout above 0 seconds and at least 1 attempt")
    if options.source == "snapshot" and options.endpoint is not None:
        raise ConfigError("the source snapshot asks no endpoint; leave --endpoint out, or choose --source wikidata")
    if options.statements and options.source != "wikidata":
        raise ConfigError(
            f"the source {options.source} has no statements; expected --source wikidata with --statements"
        )
    if options.references is not None:
        if options.references < 1:
            raise ConfigError(f"references per object {options.references}: expected at least 1")
        if not _asks(options):
            raise ConfigError(
                f"the source {options.source} cannot tell which articles its items have; "
                "give --endpoint with --source pararel, or choose --source wikidata"
            )
    wikidata.language_code(options.language)
    for url in _urls(options):
        http.require_contact(http.checked_url(url), _contact(options))
    return options


def _known(name: str, table: Iterable[str], what: str) -> None:
    if name not in table:
        raise ConfigError(f"there is no {what} {name!r}; expected one of {', '.join(sorted(table))}")


def _urls(options: FetchOptions) -> Iterator[str]:
    """Every address that these options will ask."""
    if _asks(options):
        yield wikidata.endpoint_url(options.endpoint)
    if options.references is not None:
        yield _wikipedia_url(options)
    if _uses_pararel(options) and local_path(options.pararel) is None:
        yield options.pararel


def _asks(options: FetchOptions) -> bool:
    """Whether a SPARQL endpoint is asked."""
    return options.source == "wikidata" or options.endpoint is not None


def _wikipedia_url(options: FetchOptions) -> str:
    return options.wikipedia or wikipedia.api_url(wikidata.language_code(options.language))


def _uses_pararel(options: FetchOptions) -> bool:
    return options.source == "pararel" or "pararel" in options.templates


def _contact(options: FetchOptions) -> str | None:
    return options.contact or os.environ.get(CONTACT_VARIABLE) or None


def _relations(options: FetchOptions) -> tuple[str, ...]:
    """The relations asked for, each once and by number; or all that a template set knows, and the snapshot has."""
    if options.relations is None:
        asked = set(pararel.Files(options.pararel, None).relations()) if "pararel" in options.templates else set()
        if "builtin" in options.templates:
            asked |= set(_builtin("relations")())
        asked |= {one for name in options.templates if _is_own(name) for one in own.relations(Path(name))}
        if options.source == "snapshot":
            asked &= set(Snapshot().relations())
    else:
        asked = set(options.relations)
    try:
        relations = tuple(sorted(map(property_id, asked), key=_number))
    except DataError as error:
        raise ConfigError(str(error)) from error
    if not relations:
        raise ConfigError("no relation is asked for; expected --relations such as P36,P103, or none for all")
    return relations


def _is_own(name: str) -> bool:
    return name not in TEMPLATE_SETS


def _template_set(name: str) -> str:
    """A template set as the manifest names it: a folder without where it lies, but with its digest."""
    return f"{Path(name).resolve().name}@{own.digest(Path(name))[:16]}" if _is_own(name) else name


def _builtin(name: str) -> Callable[..., Any]:
    return cast("Callable[..., Any]", getattr(import_module("cfbuild.templates.builtin"), name))


def _number(one: str) -> int:
    return int(one[1:])


def _config(options: FetchOptions, relations: tuple[str, ...]) -> dict[str, Any]:
    """Everything that affects the bytes, free of credentials and of this machine's paths."""
    files = pararel.Files(options.pararel, None) if _uses_pararel(options) else None
    return {
        "source": options.source,
        "endpoint": http.redact(wikidata.endpoint_url(options.endpoint)) if _asks(options) else None,
        "relations": list(relations),
        "language": wikidata.language_code(options.language),
        "per_relation": options.per_relation,
        "seed": options.seed,
        "statements": options.statements,
        "references": options.references,
        "wikipedia": None if options.references is None else http.redact(_wikipedia_url(options)),
        "templates": list(map(_template_set, options.templates)),
        "pararel": (files.digest() or http.redact(options.pararel)) if files else None,
    }


def _source(options: FetchOptions, work: _Work) -> Source:
    module, _, name = SOURCES[options.source].partition(":")
    wanted = Wanted(
        asker=work.asker,
        language=wikidata.language_code(options.language),
        per_relation=options.per_relation,
        seed=options.seed,
        endpoint=options.endpoint,
        location=options.pararel,
        statements=options.statements,
    )
    return cast("Source", getattr(import_module(module), name)(wanted))


def _templates(options: FetchOptions, work: _Work) -> tuple[list[Template], tuple[Refusal, ...]]:
    """The templates of every set, each text once a relation (the first set's), and ParaRel's patterns that are none."""
    found: dict[tuple[str, str, str], Template] = {}
    refused: list[Refusal] = []
    files = pararel.Files(options.pararel, work.asker) if "pararel" in options.templates else None
    for relation in work.relations:
        for name in options.templates:
            if name == "builtin":
                kept = tuple(_builtin("templates")(relation))
            elif _is_own(name):
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
    return _number(template.relation), template.kind != "rewrite", template.text


def _write_facts(work: _Work, source: Source) -> int:
    """facts.jsonl in the working folder, relation by relation. Raises SourceError if there is not one fact."""

    def rows() -> Iterator[dict[str, Any]]:
        for done, relation in enumerate(work.relations):
            work.progress("relations", done, len(work.relations))
            for fact in source.facts(relation):
                work.facts[relation] += 1
                work.items.update((fact.subject, fact.object))
                yield encode_fact(fact)
            if not work.facts[relation]:
                _log.warning("%s has no facts in this source", relation)
        work.progress("relations", len(work.relations), len(work.relations))

    count = write_jsonl(work.path / "facts.jsonl", rows())
    if not count:
        reasons = "; ".join(f"{number} left out: {reason}" for reason, number in source.tally.left_out.items())
        raise SourceError(
            f"the source has no fact of {', '.join(work.relations)}{' (' + reasons + ')' if reasons else ''}; "
            "is it Wikidata's graph, and are these its relations?"
        )
    return count


def _write_entities(work: _Work, source: Source) -> int:
    """entities.jsonl in the working folder: the items of the facts, then level by level what contains them, then the
    named ones of their classes."""
    parts: list[Path] = []
    seen: set[str] = set()
    classes: set[str] = set()
    front = work.items
    while front and len(parts) < LEVELS:
        seen |= front
        outer: set[str] = set()
        parts.append(work.path / f"level-{len(parts)}.jsonl")
        described = _described(work, source, "containers" if len(parts) > 1 else "entities", front)
        write_jsonl(parts[-1], map(encode_entity, _noting(described, outer, classes)))
        front = outer - seen
    parts.append(work.path / "classes.jsonl")
    named = (one for one in _described(work, source, "classes", (classes | front) - seen) if one.labels)
    write_jsonl(parts[-1], map(encode_entity, named))
    rows = heapq.merge(*(read_values(path, decode_entity) for path in parts), key=lambda one: _number(one.id))
    count = write_jsonl(work.path / "entities.jsonl", map(encode_entity, rows))
    for path in parts:
        path.unlink()
    return count


def _noting(entities: Iterable[Entity], outer: set[str], others: set[str]) -> Iterator[Entity]:
    """The entities, while what contains them goes into `outer` and what else they name into `others`."""
    for entity in entities:
        for relation, ids in entity.attributes.items():
            (outer if relation in wikidata.CONTAINERS else others).update(ids)
        yield entity


def _write_references(work: _Work, options: FetchOptions, wanted: int, tally: Tally) -> int:
    """references.jsonl in the working folder: lead texts of articles about subjects, for each relation and object."""
    language = wikidata.language_code(options.language)
    endpoint = Endpoint(wikidata.endpoint_url(options.endpoint), work.asker, wikipedia.PROLOGUE)
    chosen = wikipedia.candidates(read_values(work.path / "facts.jsonl", decode_fact), wanted, options.seed)
    linked = wikipedia.titles(endpoint, {one for subjects in chosen.values() for one in subjects}, language)
    asked = wikipedia.wanted_titles(chosen, linked, wanted)
    articles: dict[str, wikipedia.Article] = {}
    for article in wikipedia.Wikipedia(_wikipedia_url(options), work.asker, tally).articles(asked):
        articles[article.entity] = article
        if len(articles) % wikipedia.TITLES == 0:
            work.progress("articles", len(articles), len(asked))
    work.progress("articles", len(asked), len(asked))
    named = (one for one in read_values(work.path / "entities.jsonl", decode_entity) if one.id in articles)
    names = {one.id: one.labels[language] for one in named if language in one.labels}
    rows = wikipedia.references(chosen, articles, names, wanted)
    return write_jsonl(work.path / "references.jsonl", map(encode_reference, rows))


def _described(work: _Work, source: Source, task: str, items: Iterable[str]) -> Iterator[Entity]:
    ids: Sequence[str] = sorted(items, key=_number)
    for done, entity in enumerate(source.entities(ids)):
        if done % wikidata.ENTITIES == 0:
            work.progress(task, done, len(ids))
        yield entity
    work.progress(task, len(ids), len(ids))
