"""`cfbuild fetch`: facts and entities from a source, and templates from template sets, into the build folder.

A journal in the build folder keeps every answer. So an interrupted fetch goes on where it stopped, and a fetch whose
files were deleted writes the same bytes again without a request.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from cfbuild.data import Template, id_number, property_id
from cfbuild.errors import ConfigError, DataError
from cfbuild.option import COMMA_SEPARATED, WORD, config_values, option, restart_option
from cfbuild.progress import Progress, silent
from cfbuild.sources import dump, http, pararel, wikidata
from cfbuild.sources.address import checked_url, redact
from cfbuild.sources.catalogue import SOURCES
from cfbuild.sources.collect import Collection, write_entities, write_facts, write_references
from cfbuild.sources.journal import Journal, JournaledClient
from cfbuild.sources.objects import ObjectSource, read_ids, recorded_file
from cfbuild.sources.source import ChosenPart, FileSource, SourceOptions, SourceSpec, local_path
from cfbuild.sources.wikipedia import ReferenceOptions
from cfbuild.store.codec import encode_template
from cfbuild.store.folder import BuildFolder
from cfbuild.store.jsonl import write_jsonl
from cfbuild.store.manifest import TODAY
from cfbuild.templates import builtin, own
from cfbuild.templates.own import BUILTIN, PARAREL, TEMPLATE_SETS, TemplateOptions, is_own, recorded_name
from cfbuild.templates.patterns import Refusal
from cfbuild.templates.patterns import templates as pararel_templates

VERB = "fetch"
JOURNAL = "answers.journal"
"""The file of all answers, in the verb's folder of unfinished work."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FetchOptions(
    dump.DumpOptions,
    wikidata.WikidataOptions,
    pararel.PararelOptions,
    ReferenceOptions,
    TemplateOptions,
    http.NetworkOptions,
):
    """Options of `cfbuild fetch`, with those of all sources. `checked` refuses options that do not fit together."""

    source: str = option(
        "wikidata",
        "Where facts come from: wikidata (a query service), dump (a file of all of Wikidata), pararel, or snapshot "
        "(bundled facts, offline).",
        form=WORD.naming(*SOURCES),
    )
    relations: tuple[str, ...] | None = option(
        None,
        "Comma-separated relations to fetch, as property ids such as P36. [default: all that have templates]",
        form=COMMA_SEPARATED.naming_all(builtin.relations),
    )
    restart: bool = restart_option()

    @property
    def spec(self) -> SourceSpec:
        """Return the chosen source. Raises ConfigError for an unknown name."""
        _check_known(self.source, SOURCES, "source")
        return SOURCES[self.source]

    @property
    def of_source(self) -> SourceOptions:
        """Return the options that the chosen source reads."""
        kind = self.spec.options
        return kind(**{part.name: getattr(self, part.name) for part in fields(kind)})

    @property
    def service(self) -> str | None:  # type: ignore[override]
        return self.of_source.service

    def addresses(self) -> tuple[str, ...]:
        """Return every address that facts, names, articles and templates are requested from."""
        found = list(self.of_source.addresses())
        if self.references:
            found.append(self.api(wikidata.language_code(self.language)))
        if self.uses_pararel and local_path(self.pararel) is None:
            found.append(self.pararel)
        return tuple(found)

    @property
    def uses_pararel(self) -> bool:
        """Return True if the fetch reads ParaRel: as source, as templates, or because `--pararel` is given."""
        return PARAREL in (self.source, *self.templates) or self.pararel != pararel.PARAREL

    def object_source(self, client: JournaledClient) -> ObjectSource:
        """Return the objects that relations too large to scan are fetched by."""
        kind = pararel.PararelOptions
        named = {part.name: getattr(self, part.name) for part in fields(kind)}
        tuples = kind(**{**named, "per_relation": None, "endpoint": self.service}) if self.uses_pararel else None
        return ObjectSource(self.objects, tuples, self.seed, client)


@dataclass(frozen=True)
class FetchSummary:
    """The counts of a fetch: rows in the build's files, and what was left out, by reason.

    facts, templates: by relation. borrowed: labels by the language that they are in, where the build's has none.
    today: the day for which the facts hold, that of the last answer. retrieved: the times of the first and last answer.
    sent, waited_s: requests and seconds of this call alone. unchanged: True if the files were there already.
    chosen: by relation too large to scan, how its facts were chosen.
    """

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
    chosen: dict[str, ChosenPart] = field(default_factory=dict)
    today: str | None = None
    borrowed: dict[str, int] = field(default_factory=dict)


def fetch(folder: BuildFolder, options: FetchOptions, progress: Progress = silent) -> FetchSummary:
    """Write facts.jsonl, entities.jsonl and templates.jsonl; return their counts.

    Nothing is written if they are there, made with these options. Raises ConfigError for options that do not fit
    together, BuildStateError for a build made with other options, DataError for a broken local file, and SourceError
    for a source that could not be read: the same command goes on from there.
    """
    options = checked(options)
    relations = chosen_relations(options)
    config = manifest_config(options, relations)
    with folder.lock(VERB):
        if not folder.begin(VERB, config, restart=options.restart):
            return _summary(folder.manifest().entry(VERB).counted, unchanged=True)
        return _fetch(folder, options, relations, config, progress)


def _fetch(
    folder: BuildFolder,
    options: FetchOptions,
    relations: tuple[str, ...],
    config: dict[str, Any],
    progress: Progress,
) -> FetchSummary:
    path = folder.progress(VERB)
    for part in path.glob(".*.part"):  # a killed fetch left them
        part.unlink()
    with (
        http.Client(options.contact_address, timeout_s=options.timeout_s, attempts=options.attempts) as client,
        Journal(path / JOURNAL) as journal,
    ):
        collection = Collection(path, JournaledClient(client, journal), relations, progress)
        templates, refusals = _templates(options, collection)
        source = options.spec.make(replace(options.of_source, language=config["language"]), collection.client)
        if isinstance(source, FileSource):
            source.read(relations, path, progress)
        rows = {
            "facts.jsonl": write_facts(collection, source, options.object_source(collection.client)),
            "entities.jsonl": write_entities(collection, source),
            "templates.jsonl": write_jsonl(path / "templates.jsonl", map(encode_template, templates)),
        }
        if options.references:
            rows["references.jsonl"] = write_references(collection, options, options, source.tally)
        first, last = journal.retrieved() or (None, None)
        choices = {name: asdict(part) for name, part in collection.choices.items()}
        # Without what depends on how often the fetch was interrupted.
        counts = {
            "facts": {relation: collection.facts[relation] for relation in relations},
            "entities": rows["entities.jsonl"],
            "templates": dict(Counter(template.relation for template in templates)),
            "left_out": dict(sorted(source.tally.left_out.items())),
            "templates_left_out": dict(sorted(Counter(refusal.reason for refusal in refusals).items())),
            "borrowed": dict(sorted(source.tally.borrowed.items())),
            **({"references": rows["references.jsonl"]} if options.references else {}),
            **({"chosen": choices} if choices else {}),
            "answers": {"count": journal.used, "sha256": journal.digest()},
            "retrieved": {"first": first, "last": last},
            TODAY: collection.today,
        }
    for name in rows:
        (path / name).replace(folder.path(name))
    folder.finish(VERB, config, rows, counts)
    return _summary(counts, refusals=refusals, sent=client.sent, waited_s=client.waited_s)


def _summary(counts: Mapping[str, Any], **of_this_call: Any) -> FetchSummary:
    """Return the summary of the manifest's counts of a fetch. Raises DataError if they are not there."""
    names = ("facts", "entities", "templates", "left_out", "templates_left_out")
    if not counts.keys() >= {*names, "retrieved"}:
        raise DataError(f"the manifest does not say what `cfbuild {VERB}` counted; use --restart to do it again")
    first, last = counts["retrieved"]["first"], counts["retrieved"]["last"]
    chosen = counts.get("chosen", {})
    return FetchSummary(
        **{name: counts[name] for name in names},
        references=counts.get("references"),
        retrieved=(first, last) if first else None,
        chosen={name: ChosenPart(**config_values(ChosenPart, part)) for name, part in chosen.items()},
        today=counts.get(TODAY),
        borrowed=counts.get("borrowed", {}),
        **of_this_call,
    )


def _templates(options: FetchOptions, collection: Collection) -> tuple[list[Template], tuple[Refusal, ...]]:
    """Return the templates of every set, sorted, and the refused patterns of ParaRel.

    A template that several sets have is taken from the first of them.
    """
    found: dict[tuple[str, str, str], Template] = {}
    refused: list[Refusal] = []
    language = wikidata.language_code(options.language)
    files = pararel.Files(options.pararel, collection.client, language) if PARAREL in options.templates else None
    for relation in collection.relations:
        for name in options.templates:
            if name == BUILTIN:
                kept = builtin.templates(relation, language)
            elif is_own(name):
                kept = own.templates(Path(name), relation)
            elif files is not None:
                unchecked = files.patterns(relation, unchecked=True)
                kept, refusals = pararel_templates(relation, files.patterns(relation), unchecked)
                refused.extend(refusals)
            for template in kept:
                found.setdefault((template.relation, template.kind, template.text), template)
        if not any(key[0] == relation for key in found):
            _log.warning(
                "%s has no template; its facts can be rewritten only with templates of your own (--templates FOLDER)",
                relation,
            )
    templates = sorted(found.values(), key=lambda kept: (id_number(kept.relation), kept.kind != "rewrite", kept.text))
    return templates, tuple(refused)


def checked(options: FetchOptions) -> FetchOptions:
    """Return the options if they fit together; else raise ConfigError, before any request."""
    _check_source(options)
    _check_templates(options.templates)
    _check_language(options)
    if options.per_relation is not None and options.per_relation < 1:
        raise ConfigError(f"per relation {options.per_relation}: expected at least 1 fact a relation")
    if options.timeout_s <= 0 or options.attempts < 1:
        raise ConfigError(
            f"--timeout {options.timeout_s:g} and --attempts {options.attempts}: expected a timeout above 0 seconds "
            "and at least 1 attempt"
        )
    if options.references:
        _check_references(options)
    for url in options.addresses():
        http.require_contact(checked_url(url), options.contact_address)
    return options


def _check_source(options: FetchOptions) -> None:
    """Raise ConfigError for options that the chosen source does not read."""
    spec = options.spec
    known = {option.name for option in fields(spec.options)}
    if options.endpoint is not None and "endpoint" not in known:
        raise ConfigError(
            f"the source {options.source} asks no endpoint; leave --endpoint out, or choose --source wikidata"
        )
    if isinstance(options.of_source, dump.DumpOptions):
        dump.check(options.of_source)
    elif options.dump is not None:
        raise ConfigError(f"the source {options.source} reads no dump; choose --source dump with --dump")
    elif options.workers is not None or options.ray is not None:
        raise ConfigError(f"the source {options.source} needs no workers; leave --workers and --ray out")
    if options.objects is not None:
        if "objects" not in known:
            raise ConfigError(f"the source {options.source} fetches nothing by object; leave --objects out")
        read_ids(Path(options.objects))
    if options.also_labels and "also_labels" not in known:
        raise ConfigError(f"the source {options.source} has labels in --language alone; leave --also-labels out")
    if options.statements and "statements" not in spec.offers:
        raise ConfigError(
            f"the source {options.source} has no statements; expected --source wikidata with --statements"
        )


def _check_templates(names: tuple[str, ...]) -> None:
    for name in names:
        if not Path(name).is_dir():
            _check_known(name, TEMPLATE_SETS, "template set or folder")
    if not names:
        raise ConfigError(f"--templates names no template set; expected {', '.join(TEMPLATE_SETS)}, or a folder")


def _check_language(options: FetchOptions) -> None:
    """Raise ConfigError for templates or tuples that are not in the fetch's language; warn where that is unknown."""
    language = wikidata.language_code(options.language)
    if BUILTIN in options.templates and builtin.written_in(language) is None:
        raise ConfigError(
            f"the bundled templates are in {', '.join(builtin.languages())}, not in {language!r}; give a folder with "
            "templates of your own (--templates FOLDER), or mParaRel's (--templates pararel --pararel FOLDER)"
        )
    files = _pararel_files(options)
    is_used = {pararel.PATTERNS: PARAREL in options.templates, pararel.TUPLES: options.source == PARAREL}
    for kind in (kind for kind in is_used if is_used[kind]):
        found = files.check(kind) if files is not None else None
        if found is None and language.partition("-")[0] != builtin.LANGUAGE:
            _log.warning("%s does not say its language; its %s are taken for %s", options.pararel, kind, language)
        elif found not in (None, language):
            _log.warning("%s has no %s in %s; those in %s are taken", options.pararel, kind, language, found)


def _pararel_files(options: FetchOptions) -> pararel.Files | None:
    """Return ParaRel's files, for questions that need no download; None if the fetch does not use them."""
    if PARAREL not in (options.source, *options.templates):
        return None
    return pararel.Files(options.pararel, None, wikidata.language_code(options.language))


def _check_references(options: FetchOptions) -> None:
    if options.references_per_object < 1:
        raise ConfigError(f"references per object {options.references_per_object}: expected at least 1")
    if "references" not in options.spec.offers or options.service is None:
        raise ConfigError(
            f"the source {options.source} cannot tell which articles its items have; "
            "give --endpoint with --source pararel, or choose --source wikidata"
        )


def _check_known(name: str, table: Iterable[str], what: str) -> None:
    if name not in table:
        raise ConfigError(f"there is no {what} {name!r}; expected one of {', '.join(sorted(table))}")


def chosen_relations(options: FetchOptions) -> tuple[str, ...]:
    """Return the relations to fetch, each once, ordered by number.

    They are those of the options, or all that have templates and that the source has. Raises ConfigError if there are
    none, or for a name that is no property id.
    """
    names = set(options.relations) if options.relations is not None else _relations_with_templates(options)
    try:
        relations = tuple(sorted(map(property_id, names), key=id_number))
    except DataError as error:
        raise ConfigError(str(error)) from error
    if not relations:
        raise ConfigError(
            "there is no relation to fetch; expected relations with templates and facts, such as P36,P103"
        )
    return relations


def _relations_with_templates(options: FetchOptions) -> set[str]:
    """Return the relations that a chosen template set knows, without those that the source certainly lacks."""
    found: set[str] = set()
    files = _pararel_files(options)
    for name in options.templates:
        if is_own(name):
            found.update(own.relations(Path(name)))
        elif name == BUILTIN:
            found.update(builtin.relations(wikidata.language_code(options.language)))
        elif files is not None:
            found.update(files.relations())
    known = options.of_source.known_relations()
    return found if known is None else found & known


def manifest_config(options: FetchOptions, relations: tuple[str, ...]) -> dict[str, Any]:
    """Return everything that the build's bytes depend on, without credentials and paths of this machine.

    relations: those that are fetched, as `chosen_relations` returns them.
    """
    language = wikidata.language_code(options.language)
    files = _pararel_files(options)
    return {
        "source": options.source,
        **({"dump": dump.fingerprint(options.dump)} if options.dump else {}),
        "endpoint": redact(options.service) if options.service else None,
        "relations": list(relations),
        "language": language,
        **({"also_labels": list(map(wikidata.language_code, options.also_labels))} if options.also_labels else {}),
        "per_relation": options.per_relation,
        "seed": options.seed,
        "statements": options.statements,
        "objects": recorded_file(Path(options.objects)) if options.objects else None,
        "references": options.references_per_object if options.references else None,
        "wikipedia": redact(options.api(language)) if options.references else None,
        "templates": list(map(recorded_name, options.templates)),
        "pararel": (files.digest() or redact(options.pararel)) if files else None,
    }
