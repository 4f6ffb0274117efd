"""The facts of a relation, fetched in parts: disjoint sets by object and by a hash of the subject.

docs/internals.md ("Parts instead of pages") explains how a relation of millions of facts is cut into answers that are
whole, cheap for the server, and small enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import ceil, inf

from cfbuild.data import UNKNOWN, id_number, property_id
from cfbuild.errors import SourceError
from cfbuild.sources.failures import HeavyAnswerError
from cfbuild.sources.http import HEAVY_ATTEMPTS
from cfbuild.sources.source import SourceTally
from cfbuild.sources.sparql import PAGE_ROWS, Binding, Counted, Endpoint, halves
from cfbuild.sources.statements import GENID, is_unknown, item_of, values_of
from cfbuild.sources.subset import DIGITS, HASHES, Pair, Sample, SampleOrder, Span

SCAN_ROWS = 500_000
"""The most facts that the server looks at for an answer about a sample of them."""
SURPLUS = 1.25
"""The factor on the expected share of hashes in a query, so that a single query mostly suffices."""
WHOLE = 20
"""A part is fetched whole if its facts are at most so many times the sample that is drawn from it."""
PAGE_OBJECTS = 1_000
SCAN_OBJECTS = 5_000
"""The most objects in a part, without and with a range of hashes."""
SMALL_PART = 4
"""Facts expected in a part that is not split on: if even these are too much, their number is not the cause."""


class RefusedError(Exception):
    """A query that is too much for the service, however small its answer is."""


@dataclass(frozen=True, slots=True)
class Part:
    """The facts of a relation with `objects` (empty: any) and with a subject whose hash is in `span`.

    `facts` is the approximate number of facts with these objects, of any subject, that the server has to look at; it
    compares the hash of each with the two ends of the span. `unknown`: only facts whose object nobody knows.
    """

    relation: str
    objects: tuple[str, ...] = ()
    span: Span = (0, HASHES)
    facts: float = inf
    unknown: bool = False

    def __str__(self) -> str:
        more = f" and {len(self.objects) - 1:,} more objects" if len(self.objects) > 1 else ""
        objects = f" of {self.objects[0]}{more}" if self.objects else ""
        return f"{self.relation}{objects}" + (f", hashes {self.span[0]} to {self.span[1]}" if self.hashed else "")

    @property
    def pattern(self) -> str:
        """Return the part as a SPARQL group graph pattern over ?s and ?o."""
        values = f"{values_of('?o', self.objects)} " if self.objects else ""
        return f"{values}?s wdt:{property_id(self.relation)} ?o .{self._filter()}"

    @property
    def hashed(self) -> bool:
        """Return True if the server must compute hashes to answer."""
        return self.span != (0, HASHES)

    @property
    def expected(self) -> float:
        """Return the number of facts that are expected in the part."""
        share: float = (self.span[1] - self.span[0]) / HASHES
        return self.facts * share

    def _filter(self) -> str:
        low, high = self.span
        bounds = [f'MD5(STR(?s)) >= "{low:0{DIGITS}x}"'] if low > 0 else []
        bounds += [f'MD5(STR(?s)) < "{high:0{DIGITS}x}"'] if high < HASHES else []
        bounds += [f'(isBlank(?o) || STRSTARTS(STR(?o), "{GENID}"))'] if self.unknown else []
        return f" FILTER({' && '.join(bounds)})" if bounds else ""

    def split(self) -> tuple[Part, ...]:
        """Return two smaller parts that together are this part; none if it cannot be cut further."""
        if len(self.objects) > 1:
            return tuple(
                replace(self, objects=half, facts=self.facts * len(half) / len(self.objects))
                for half in halves(self.objects)
            )
        low, high = self.span
        return self.cut(2) if high - low > 1 else ()

    def cut(self, number: int) -> tuple[Part, ...]:
        """Return this part as `number` parts with ranges of hashes of about the same size."""
        low, high = self.span
        bounds = [low + (high - low) * index // number for index in range(number + 1)]
        return tuple(replace(self, span=span) for span in pairwise(bounds))


@dataclass(frozen=True)
class PartReader:
    """A reader of parts from an endpoint; `tally` counts the rows that are no fact between items.

    An answer has at most `page_rows` rows, and the server looks at `scan_rows` facts for it. The methods raise
    RefusedError if a part is too much for the service and cannot be split, and SourceError if an answer did not come.
    """

    endpoint: Endpoint
    tally: SourceTally
    page_rows: int = PAGE_ROWS
    scan_rows: int = SCAN_ROWS

    def everything(self, whole: Part) -> set[Pair]:
        """Return all facts of `whole`."""
        return set(self.pairs(self._parts(whole)))

    def sample(self, whole: Part, limit: int, order: SampleOrder) -> set[Pair]:
        """Return at most `limit` facts of the first subjects of `whole`; no more hashes are queried than that takes."""
        sample = Sample(order, limit)
        found: set[Pair] = set()
        if whole.facts <= min(self.page_rows, WHOLE * limit):
            sample.add(self.pairs([whole]))
            return sample.pairs
        step = ceil(SURPLUS * limit / whole.facts * HASHES)
        done, more = 0, step // 4 + 1
        while not sample.full and done < HASHES:
            for span in order.spans(done, done + step):
                found.update(self.pairs(self._parts(replace(whole, span=span))))
            sample.add(found)
            found.clear()
            done, step, more = done + step, more, 2 * more
        return sample.pairs

    def _parts(self, whole: Part) -> Iterable[Part]:
        """Return the parts of `whole` to query: itself if it fits, else parts by object, of frequent ones also by hash.

        If the service does not count the facts of each object, the parts are by hash alone.
        """
        budget = self.scan_rows if whole.hashed else self.page_rows
        if whole.facts <= budget:
            return [whole]
        if len(whole.objects) == 1:
            return self.packed(whole, [(whole.objects[0], int(whole.facts))])
        census = self.census(whole.relation)
        if census is None and whole.facts <= self.scan_rows:
            return whole.cut(ceil(SURPLUS * whole.facts / self.page_rows))
        if census is None:
            raise RefusedError(f"the service does not manage to count the facts of each object of {whole.relation}")
        numbers, unknown = census
        return chain(self.packed(whole, numbers), self._unknown(whole, unknown))

    def _unknown(self, whole: Part, number: int) -> Iterable[Part]:
        """Return the parts with the facts of `whole` whose object nobody knows; they are about `number`."""
        part = replace(whole, unknown=True, facts=number)
        return part.cut(1 if whole.hashed else ceil(SURPLUS * number / self.page_rows)) if number else ()

    def packed(self, whole: Part, numbers: Iterable[tuple[str, int]]) -> Iterator[Part]:
        """Yield the parts of `whole` with these objects, given with the numbers of their facts.

        A part holds objects with at most a page of facts; an object with more is cut by hash.
        """
        budget = self.scan_rows if whole.hashed else self.page_rows
        most = SCAN_OBJECTS if whole.hashed else PAGE_OBJECTS
        batch: list[str] = []
        size = 0
        for value, number in numbers:
            if batch and (size + number > budget or len(batch) == most):
                yield replace(whole, objects=tuple(batch), facts=size)
                batch, size = [], 0
            if number > budget and not whole.hashed:
                yield from replace(whole, objects=(value,), facts=number).cut(ceil(SURPLUS * number / budget))
            else:
                batch.append(value)
                size += number
        if batch:
            yield replace(whole, objects=tuple(batch), facts=size)

    def census(self, relation: str) -> tuple[list[tuple[str, int]], int] | None:
        """Return how many facts each object has by item number, [("Q90", 12), ...], and how many an unknown object.

        None if that is too much for the service.
        """
        groups = self.endpoint.groups(Part(relation).pattern, "?o")
        if groups is None:
            return None
        numbers: dict[str, int] = {}
        unknown = 0
        for term, number in groups:
            item = item_of(term)
            if is_unknown(term):
                unknown += number
            elif item is None:
                self.tally.add("object is no item", number)
            else:
                numbers[item] = number
        return sorted(numbers.items(), key=lambda entry: id_number(entry[0])), unknown

    def pairs(self, parts: Iterable[Part]) -> Iterator[Pair]:
        """Yield the facts of the parts that are between items."""
        for part in parts:
            yield from self.items(self._rows(part))

    def items(self, rows: Iterable[Binding]) -> Iterator[Pair]:
        """Yield the pairs of the rows whose ?s is an item and ?o an item or unknown; `tally` counts the rest."""
        for row in rows:
            subject, value = item_of(row["s"]), UNKNOWN if is_unknown(row["o"]) else item_of(row["o"])
            if subject is None or value is None:
                self.tally.add("subject is no item" if subject is None else "object is no item")
            else:
                yield id_number(subject), id_number(value)

    def first(self, part: Part, number: int) -> set[Pair]:
        """Return at most `number` facts of a part, and at most a page, that come first in the service's own order."""
        light = Part(part.relation).pattern
        limit = min(number, self.page_rows)
        answer = self.endpoint.counted_unless_refused(part.pattern, "?s ?o", limit, light)
        if answer is None:
            raise RefusedError(f"the service does not manage the first facts of {part}")
        return set(self.items(answer.rows))

    def _rows(self, part: Part) -> Iterator[Binding]:
        """Yield the rows of a part, or of its two splits if it is more than a page or too much for the server."""
        splits = part.split()
        answer = self._answer(part, bool(splits) and (len(part.objects) > 1 or part.expected > SMALL_PART))
        if answer is not None and answer.total <= self.page_rows:
            yield from answer.rows
            return
        if not splits:
            raise SourceError(f"{part} has more than {self.page_rows} facts and cannot be split further")
        for split in splits:
            yield from self._rows(split)

    def _answer(self, part: Part, splittable: bool) -> Counted | None:
        """Return the counted answer; None if a splittable part is too much for the server."""
        limit = self.page_rows + 1
        if splittable:
            try:
                return self.endpoint.counted(part.pattern, "?s ?o", limit, HEAVY_ATTEMPTS)
            except HeavyAnswerError:
                return None
        light = Part(part.relation).pattern
        answer = self.endpoint.counted_unless_refused(part.pattern, "?s ?o", limit, light)
        if answer is None:
            raise RefusedError(f"the service does not manage {part}")
        return answer
