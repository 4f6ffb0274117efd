"""ParaRel's files, in a checkout or at its raw URL: its patterns, and its tuples as a source of facts.

ParaRel is English. mParaRel has one folder for each language under `patterns` and `tuples`; the build's language is
read, or one that stands in for it (`text/codes.py`).

ParaRel's tuples have labels and no ids; mParaRel's and LAMA's have both. A tuple without ids is looked up in a SPARQL
endpoint: it becomes a fact if exactly one pair of items has these labels and this relation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cfbuild.data import ITEM_ID, PROPERTY_ID, Entity, Fact, id_number, property_id
from cfbuild.errors import ConfigError, DataError
from cfbuild.option import option
from cfbuild.sources.endpoints import endpoint_url
from cfbuild.sources.failures import decoded
from cfbuild.sources.http import AddressOption, HttpRequest
from cfbuild.sources.journal import JournaledClient
from cfbuild.sources.source import EndpointOptions, SourceSpec, SourceTally, local_path
from cfbuild.sources.sparql import Binding, Endpoint, batch_rows, literal
from cfbuild.sources.subset import sampled
from cfbuild.sources.wikidata import PROLOGUE, Wikidata, WikidataOptions, language_code
from cfbuild.store.files import sha256_file, sha256_text
from cfbuild.store.jsonl import Row, parse_row, read_rows
from cfbuild.text.codes import chain

PARAREL = "https://raw.githubusercontent.com/yanaiela/pararel/cb5554678457beb5ac163d888f1ce8cf174b3f0b"
"""ParaRel at a fixed commit, so that two builds read the same patterns."""

PATTERNS, TUPLES = "patterns", "tuples"
"""The kinds of files, and the names of mParaRel's folders for them."""
CHECKED = "checked-by-human"
"""A key of mParaRel's reviewed patterns; it is false for a machine's translation that nobody checked."""
ENGLISH = {PATTERNS: "data/pattern_data/graphs_json", TUPLES: "data/trex_lms_vocab"}
"""ParaRel's own folders by kind of file."""
TEXT_TYPES = ("text/plain", "application/json", "application/x-ndjson", "application/jsonl", "application/octet-stream")

# fmt: off
_NUMBERS = (
    17, 19, 20, 27, 30, 36, 37, 39, 47, 101, 103, 106, 108, 127, 131, 136, 138, 140, 159, 176, 178, 190, 264, 276, 279,
    361, 364, 407, 413, 449, 463, 495, 530, 740, 937, 1001, 1303, 1376, 1412,
)
# fmt: on
RELATIONS = tuple(f"P{number}" for number in _NUMBERS)
"""The 39 relations with patterns in ParaRel; a raw URL does not list its files."""

PAIRS = 40
"""Pairs of labels in a query that looks up their ids."""

Tuple = tuple[str, str]


class Files:
    """ParaRel's files at `location`: a folder (a checkout, mParaRel's, or one with the files themselves) or a raw URL.

    client: sends the requests for a URL; None allows folders only. language: the code of the files' language. Raises
    ConfigError if a folder does not exist.
    """

    def __init__(self, location: str, client: JournaledClient | None, language: str = "en") -> None:
        self.location = location
        self.language = language
        self._client = client
        self._root = local_path(location)
        if self._root is not None and not self._root.is_dir():
            raise ConfigError(f"{location} is not a folder; expected a ParaRel checkout, or the URL of its raw files")

    def check(self, kind: str) -> str | None:
        """Return the language of the files of this `kind` (PATTERNS or TUPLES); None if the folder does not tell it.

        Raises ConfigError if there are none in the language.
        """
        if self._root is None:
            return self._name(kind) and self.language
        languages, found = self._languages(kind), self._found(kind)
        if found is not None:
            return found.name.lower() if languages else None if found == self._root else self.language
        if not languages:
            raise self._english_only(kind)
        raise ConfigError(
            f"{self.location} has {kind} in {', '.join(sorted(languages))}, none in {self.language!r}; "
            "choose one of these languages, or templates of your own"
        )

    def relations(self) -> tuple[str, ...]:
        """Return the relations that have patterns here, by number. Raises as `check`."""
        self.check(PATTERNS)
        if self._root is None:
            return RELATIONS
        found = {path.stem for path in self._folder(PATTERNS).glob("P*.jsonl")}
        return tuple(sorted(filter(PROPERTY_ID.match, found), key=id_number))

    def patterns(self, relation: str, *, unchecked: bool = False) -> list[str]:
        """Return the patterns for `relation` in the file's order, such as "[X] was born in [Y]."; [] if it has none.

        unchecked: those that nobody checked, by mParaRel's own account, in place of all others. Raises DataError (a
        local file) or SourceError (a remote one) if they cannot be read.
        """
        if relation not in self.relations():
            return []
        rows = self._rows(PATTERNS, relation, ("pattern",))
        return [row["pattern"] for row in rows if (row.get(CHECKED) is False) is unchecked]

    def tuples(self, relation: str) -> list[Row]:
        """Return rows with `sub_label`, `obj_label` and maybe `sub_uri`, `obj_uri`. Raises as `patterns`."""
        self.check(TUPLES)
        if self._root is not None and not self._path(TUPLES, relation).is_file():
            return []
        return self._rows(TUPLES, relation, ("sub_label", "obj_label"))

    def has_tuples(self, relation: str) -> bool:
        """Return True if there are tuples for `relation` here; a folder of mere files may hold patterns alone."""
        if self._root is None:
            return relation in RELATIONS
        path = self._path(TUPLES, relation)
        return path.is_file() and any("obj_label" in row for _, row in islice(read_rows(path), 1))

    def digest(self) -> str | None:
        """Return the sha256 over the names and digests of local files, which changes with them; None for a URL."""
        if self._root is None:
            return None
        folders = sorted({folder for kind in ENGLISH if (folder := self._found(kind)) is not None})
        paths = [path for folder in folders for path in sorted(folder.glob("P*.jsonl"))]
        return sha256_text("".join(f"{path.name} {sha256_file(path)}\n" for path in paths))

    def _rows(self, kind: str, relation: str, keys: Sequence[str]) -> list[Row]:
        if self._root is None:
            return self._download(f"{self._name(kind)}/{property_id(relation)}.jsonl", keys)
        path = self._path(kind, relation)
        return [_with_keys(row, keys, f"{path}:{number}") for number, row in read_rows(path)]

    def _download(self, name: str, keys: Sequence[str]) -> list[Row]:
        if self._client is None:
            raise ConfigError(f"{self.location} is a URL, and no request may be sent here; give a folder")
        address_option = AddressOption("--pararel", self.location.rstrip("/"))
        request = HttpRequest("GET", f"{address_option.address}/{name}", TEXT_TYPES, address_option=address_option)
        return self._client.ask(request, _lines(keys))

    def _name(self, kind: str) -> str:
        """Return the folder of a kind under a URL. Raises ConfigError if ParaRel's own has another language."""
        if self._is_english:
            return ENGLISH[kind]
        if self._root is None and self.location == PARAREL:
            raise self._english_only(kind)
        return f"{kind}/{self.language}"

    @property
    def _is_english(self) -> bool:
        return self.language.partition("-")[0] == "en"

    def _english_only(self, kind: str) -> ConfigError:
        return ConfigError(
            f"{self.location}: ParaRel's {kind} are in en only, not in {self.language!r}; give the folder of a "
            "translation, such as mParaRel's, with --pararel, or templates of your own with --templates"
        )

    def _path(self, kind: str, relation: str) -> Path:
        return self._folder(kind) / f"{property_id(relation)}.jsonl"

    def _folder(self, kind: str) -> Path:
        folder = self._found(kind)
        assert folder is not None, "`check` was called before"
        return folder

    def _languages(self, kind: str) -> dict[str, Path]:
        """Return the folders of a kind by language; {} if the files are not kept by language."""
        top = self._root / kind if self._root is not None else None
        return {path.name.lower(): path for path in top.iterdir() if path.is_dir()} if top and top.is_dir() else {}

    def _found(self, kind: str) -> Path | None:
        """Return the folder with a kind of files in the language, or None.

        A folder with the files themselves does not tell their language; it is taken for every language.
        """
        assert self._root is not None
        if languages := self._languages(kind):
            return next((languages[code] for code in chain(self.language) if code in languages), None)
        if (own := self._root / ENGLISH[kind]).is_dir():
            return own if self._is_english else None
        return self._root


def _lines(keys: Sequence[str]) -> Callable[[bytes], list[Row]]:
    """Return a function that returns the rows of a downloaded JSONL file, and checks that each has text under `keys`.

    The function raises DataError for any other body, an empty one among them.
    """

    def check(body: bytes) -> list[Row]:
        lines = enumerate(decoded(body).split("\n"), 1)
        numbered = [(f"line {number}", line) for number, line in lines if line.strip()]
        if not numbered:
            raise DataError("the file is empty")
        return [_with_keys(parse_row(line, where), keys, where) for where, line in numbered]

    return check


def _with_keys(row: Row, keys: Sequence[str], where: str) -> Row:
    for key in keys:
        if not isinstance(row.get(key), str):
            raise DataError(f"{where}: expected text under {key!r}, got {row.get(key)!r}")
    return row


@dataclass(frozen=True)
class PararelOptions(EndpointOptions):
    """Options of ParaRel's tuples. With `endpoint` None, ids and names come from the files alone."""

    pararel: str = option(
        PARAREL, "The folder of a ParaRel checkout, or the URL of its raw files. [default: the URL of a pinned commit]"
    )

    @property
    def service(self) -> str | None:
        return endpoint_url(self.endpoint) if self.endpoint else None

    def addresses(self) -> tuple[str, ...]:
        return (*super().addresses(), *(() if local_path(self.pararel) else (self.pararel,)))


class Pararel:
    """A `FactSource` over ParaRel's tuples; without an endpoint it has the tuples with ids, and labels alone."""

    def __init__(self, options: PararelOptions, client: JournaledClient) -> None:
        self.tally = SourceTally()
        self.language = language_code(options.language)
        self._options = options
        self._files = Files(options.pararel, client, self.language)
        self._labels: dict[str, str] = {}
        url = options.service
        self._endpoint = Endpoint(url, client, PROLOGUE) if url else None
        self._graph = Wikidata(WikidataOptions(language=self.language, endpoint=url), client) if url else None
        if self._graph is not None:
            self._graph.tally = self.tally

    def facts(self, relation: str) -> Iterator[Fact]:
        """Yield the tuples of `relation` as facts, or their seeded sample, by subject then object number."""
        identified = []
        labelled = []
        for row in self._files.tuples(relation):
            if "sub_uri" in row or "obj_uri" in row:
                identified.append(self._identified(row))
            else:
                labelled.append((row["sub_label"], row["obj_label"]))
        pairs = [*filter(None, identified), *self._looked_up(relation, sorted(set(labelled)))]
        facts = {Fact(relation, subject, value, source="pararel") for subject, value in pairs}
        yield from sampled(facts, relation, self._options.per_relation, self._options.seed)

    def entities(self, ids: Sequence[str]) -> Iterator[Entity]:
        """Yield the entity of each of `ids`: the endpoint's, or one with the tuples' label if there is no endpoint."""
        if self._graph is None:
            yield from (Entity(item, labels=self._label(item)) for item in ids)
            return
        for entity in self._graph.entities(ids):
            labels = entity.labels or self._label(entity.id)
            yield Entity(entity.id, labels, entity.aliases, entity.attributes, entity.sitelinks)

    def _label(self, entity_id: str) -> dict[str, str]:
        return {self.language: self._labels[entity_id]} if entity_id in self._labels else {}

    def _identified(self, row: Row) -> Tuple | None:
        ids = _local_id(row.get("sub_uri")), _local_id(row.get("obj_uri"))
        if ids[0] is None or ids[1] is None:
            self.tally.add("tuple with a malformed id")
            return None
        self._name(ids[0], row["sub_label"])
        self._name(ids[1], row["obj_label"])
        return ids[0], ids[1]

    def _name(self, entity_id: str, label: str) -> None:
        self._labels[entity_id] = min(label, self._labels.get(entity_id, label))

    def _looked_up(self, relation: str, pairs: list[Tuple]) -> Iterator[Tuple]:
        if pairs and self._endpoint is None:
            self.tally.add("tuple without ids, and no --endpoint to look them up in", len(pairs))
            return
        for start in range(0, len(pairs), PAIRS):
            batch = pairs[start : start + PAIRS]
            found = self._matches(relation, batch)
            for pair in batch:
                yield from self._only(pair, found.get(pair, set()))

    def _only(self, pair: Tuple, matches: set[Tuple]) -> Iterator[Tuple]:
        if len(matches) == 1:
            (match,) = matches
            self._name(match[0], pair[0])
            self._name(match[1], pair[1])
            yield match
        else:
            self.tally.add("tuple whose labels fit several facts" if matches else "tuple whose labels fit no fact")

    def _matches(self, relation: str, batch: list[Tuple]) -> dict[Tuple, set[Tuple]]:
        """Return the (subject id, object id) of the facts of `relation` between items with these labels, by labels."""
        assert self._endpoint is not None
        found: dict[Tuple, set[Tuple]] = {}
        for row in batch_rows(self._endpoint, lambda part: self._labelled(relation, part), "?a ?b ?s ?o", batch):
            match = _bound(row, "s"), _bound(row, "o")
            if match[0] is not None and match[1] is not None:
                found.setdefault((row["a"].value, row["b"].value), set()).add((match[0], match[1]))
        return found

    def _labelled(self, relation: str, batch: tuple[Tuple, ...]) -> str:
        codes = chain(self.language)
        rows = (f"({literal(s, a)} {literal(o, b)})" for s, o in batch for a in codes for b in codes)
        return (
            f"VALUES (?a ?b) {{ {' '.join(rows)} }} "
            f"?s rdfs:label ?a . ?s wdt:{property_id(relation)} ?o . ?o rdfs:label ?b ."
        )


SPEC = SourceSpec(PararelOptions, Pararel, frozenset({"facts", "names", "references"}))


def _bound(row: Binding, name: str) -> str | None:
    return _local_id(row[name].value)


def _local_id(value: Any) -> str | None:
    """Return the item id, such as Q42, in an id or an item's IRI; None for anything else."""
    local = re.sub(r"^https?://www\.wikidata\.org/(entity|wiki)/", "", value) if isinstance(value, str) else ""
    return local if ITEM_ID.match(local) else None
