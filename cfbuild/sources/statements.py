"""Statements behind truthy facts: their ranks, and the dates of their qualifiers (P580, P582, P585); and redirects.

Truthy facts are those that are true now. Only the statement nodes (`p:`, `ps:`, `pq:` in Wikidata's RDF) tell that an
o* was true once, or is true by a lower rank. A date is as precise as its value node (`pqv:`) tells; a value that nobody
knows is UNKNOWN.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cfbuild.data import ITEM_ID, UNKNOWN, Fact, id_number, item_id, property_id
from cfbuild.facts.dates import of_precision
from cfbuild.sources.sparql import Binding, Endpoint, Term, batch_rows
from cfbuild.sources.subset import ENTITY

RANKS = {
    "http://wikiba.se/ontology#PreferredRank": "preferred",
    "http://wikiba.se/ontology#NormalRank": "normal",
    "http://wikiba.se/ontology#DeprecatedRank": "deprecated",
}
WHOLE = re.compile(r"-?[0-9]{4,16}-[0-9]{2}-[0-9]{2}\Z")
PRECISION = re.compile(r"[0-9]{1,2}\Z")
"""The forms of a whole date and of a precision's number; int() refuses numbers of absurd length."""
SUBJECTS = 250
"""Items in a query, as many as in a query about entities (`wikidata.py`)."""
GENID = "http://www.wikidata.org/.well-known/genid/"
"""The beginning of a term that Wikidata's service uses in place of a blank node, for a value that nobody knows."""
DATES = {"start": "P580", "end": "P582", "at": "P585"}
"""The qualifiers that are dates, by the variables of the query."""
PREFIXES = (
    "PREFIX p: <http://www.wikidata.org/prop/> "
    "PREFIX ps: <http://www.wikidata.org/prop/statement/> "
    "PREFIX pq: <http://www.wikidata.org/prop/qualifier/> "
    "PREFIX pqv: <http://www.wikidata.org/prop/qualifier/value/> "
    "PREFIX schema: <http://schema.org/> "
    "PREFIX owl: <http://www.w3.org/2002/07/owl#> "
)
"""PREFIX lines for the endpoint's prologue, which also needs wd:, wdt: and wikibase:."""


@dataclass(slots=True)
class _Statement:
    """The rows of a statement node, merged; several values of a qualifier give several rows."""

    fact: Fact
    starts: set[str]
    ends: set[str]

    def dated(self) -> Fact:
        known = self.ends - {UNKNOWN}
        return replace(self.fact, start=min(self.starts, default=None), end=max(known or self.ends, default=None))


def with_statements(endpoint: Endpoint, facts: Iterable[Fact], redirected: Callable[[str], str]) -> Iterator[Fact]:
    """Yield all statements of the facts' subjects under their relation, by subject and object number.

    facts: of a single relation; one without a statement node (in a graph of truthy facts) stays as it is. redirected:
    returns the id to which an item's id leads now. Raises SourceError if an answer did not come.
    """
    by_subject: dict[str, list[Fact]] = {}
    for fact in facts:
        by_subject.setdefault(fact.subject, []).append(fact)
    subjects = sorted(by_subject, key=id_number)
    for start in range(0, len(subjects), SUBJECTS):
        batch = subjects[start : start + SUBJECTS]
        plain = [fact for subject in batch for fact in by_subject[subject]]
        stated = _statements(endpoint, plain[0].relation, batch, redirected)
        with_node = {(fact.subject, fact.object) for fact in stated}
        stated.update(fact for fact in plain if (fact.subject, fact.object) not in with_node)
        yield from sorted(stated, key=_order)


def _order(fact: Fact) -> tuple[int, int, str, str, str]:
    return id_number(fact.subject), id_number(fact.object), fact.rank or "", fact.start or "", fact.end or ""


def redirects(endpoint: Endpoint, ids: Iterable[str]) -> dict[str, str]:
    """Return the item to which each redirect among `ids` finally leads (owl:sameAs), by the redirect's id."""
    found: dict[str, str] = {}
    front = sorted(set(ids) - {UNKNOWN}, key=id_number)
    while front:
        new: dict[str, str] = {}
        for start in range(0, len(front), SUBJECTS):
            batch = front[start : start + SUBJECTS]
            for row in batch_rows(endpoint, lambda ids: f"{values_of('?e', ids)} ?e owl:sameAs ?v .", "?e ?v", batch):
                source, target = item_of(row["e"]), item_of(row["v"])
                if source is not None and target is not None and source != target:
                    new[source] = target
        found.update(new)
        front = sorted(set(new.values()) - found.keys(), key=id_number)
    return {item: _last(item, found) for item in found}


def _last(item: str, found: dict[str, str]) -> str:
    seen = {item}
    while item in found and found[item] not in seen:
        item = found[item]
        seen.add(item)
    return item


def _statements(
    endpoint: Endpoint, relation: str, subjects: Sequence[str], redirected: Callable[[str], str]
) -> set[Fact]:
    """Return the statements of `subjects` under `relation` whose value is an item or unknown."""
    found: dict[tuple[str, str], _Statement] = {}
    variables = " ".join(f"?{name} ?{name}_precision" for name in DATES)
    rows = batch_rows(endpoint, lambda part: _pattern(relation, part), f"?s ?x ?o ?rank {variables}", tuple(subjects))
    for row in rows:
        subject, rank = item_of(row["s"]), RANKS.get(row["rank"].value)
        value = UNKNOWN if is_unknown(row["o"]) else item_of(row["o"])
        if subject is None or value is None or rank is None:
            continue
        fact = Fact(relation, redirected(subject), redirected(value), rank=rank, source="wikidata")
        statement = found.setdefault((row["x"].value, fact.object), _Statement(fact, set(), set()))
        if "start" in row or "at" in row:
            statement.starts.add(_date(row, "start" if "start" in row else "at"))
        if "end" in row:
            statement.ends.add(_date(row, "end"))
    return {statement.dated() for statement in found.values()}


def _pattern(relation: str, subjects: tuple[str, ...]) -> str:
    name = property_id(relation)
    return f"{values_of('?s', subjects)} ?s p:{name} ?x . ?x ps:{name} ?o . ?x wikibase:rank ?rank . " + " ".join(
        _dated(variable, qualifier) for variable, qualifier in DATES.items()
    )


def _dated(variable: str, qualifier: str) -> str:
    """Return the pattern of a date, and of its precision if the graph has the value nodes that tell it."""
    node, precision = f"?{variable}_node", f"?{variable}_precision"
    return (
        f"OPTIONAL {{ ?x pq:{qualifier} ?{variable} OPTIONAL {{ ?x pqv:{qualifier} {node} . "
        f"{node} wikibase:timeValue ?{variable} ; wikibase:timePrecision {precision} }} }}"
    )


def values_of(variable: str, ids: Iterable[str]) -> str:
    """Return the SPARQL pattern that binds `variable` to the items `ids`: "VALUES ?e { wd:Q1 wd:Q2 }"."""
    return f"VALUES {variable} {{ {' '.join('wd:' + item_id(item) for item in ids)} }}"


def item_of(term: Term) -> str | None:
    """Return the id of the item that a term names; None if it names none, as a literal or an unknown value."""
    if term.kind != "uri" or not term.value.startswith(ENTITY):
        return None
    local = term.value[len(ENTITY) :]
    return local if ITEM_ID.match(local) else None


def is_unknown(term: Term) -> bool:
    """Return True if a term is an unknown value (Wikibase's SomeValue)."""
    return term.kind == "bnode" or (term.kind == "uri" and term.value.startswith(GENID))


def _date(row: Binding, name: str) -> str:
    """Return a row's date as precise as it is known; UNKNOWN for an unknown value or a literal that is no date."""
    term, precision = row[name], row.get(f"{name}_precision")
    day = term.value.removeprefix("+").split("T")[0]
    if term.kind not in ("literal", "typed-literal") or not WHOLE.match(day):
        return UNKNOWN
    return of_precision(day, int(precision.value) if precision and PRECISION.match(precision.value) else None)
