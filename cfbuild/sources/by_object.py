"""Facts of a relation that is too large for the service to scan, fetched by known objects.

A service answers a pattern with a given object from its index, however large the relation. `KnownObjects` lists the
objects; the seed decides which facts of each are fetched. The subjects that are found are queried again for all of
their objects, so that it stays visible which other objects are true of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cfbuild.data import id_number, property_id
from cfbuild.errors import SourceError
from cfbuild.progress import Progress
from cfbuild.sources.failures import HeavyAnswerError
from cfbuild.sources.http import HEAVY_ATTEMPTS
from cfbuild.sources.parts import Part, PartReader, RefusedError
from cfbuild.sources.source import CENSUS, ChosenPart, KnownObjects, ObjectGroups, in_seeded_order
from cfbuild.sources.sparql import batch_rows, halves
from cfbuild.sources.statements import values_of
from cfbuild.sources.subset import Pair, Sample, SampleOrder

LEAST_SHARE = 25
"""The fewest facts of an object in a sample, if it has so many: ten neighbors should remain after all rules."""
FIRST_FACTS = 200
"""The facts that are read of an object too large to list, as a multiple of the facts that the seed draws from them."""
GUESSES = 100
"""Items in a query that tries guessed objects, of which few are objects of the relation."""
SUBJECTS_AT_ONCE = 1_000
"""Subjects whose facts are completed between two reports of progress."""


@dataclass
class ByObject:
    """A fetch by object of at most `limit` facts (None: all) of the relation of `whole`, which has `whole.facts`.

    `order` is the seed's order of subjects. `limited` collects the objects of which only first facts were read,
    `refused` those of which the service gave none.
    """

    reader: PartReader
    whole: Part
    order: SampleOrder
    limit: int | None
    progress: Progress
    limited: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def facts(self, known: KnownObjects) -> tuple[set[Pair], ChosenPart]:
        """Return the facts, and how they were chosen.

        Raises SourceError if an answer did not come, or if the service has no fact of any known object.
        """
        census = None if known.named else self.reader.census(self.whole.relation)
        numbers, origins = self._numbers(known, None if census is None else dict(census[0]))
        share = None if self.limit is None else even_share(list(numbers.values()), self.limit)
        pairs = self._completed(self._pairs(numbers, share))
        if not pairs:
            raise SourceError(
                f"{self.whole.relation} has {self.whole.facts:,} facts, too many for the service to look through, and "
                "none of a known object; list its objects in a file, one id a line, and give the file with --objects"
            )
        if self.limit is not None:
            sample = Sample(self.order, self.limit)
            sample.add(pairs)
            pairs = sample.pairs
        used = {origin: len(set(ids) & numbers.keys()) for origin, ids in origins.items()}
        return pairs, ChosenPart(
            of_facts=int(self.whole.facts),
            objects={origin: number for origin, number in used.items() if number},
            of_each=share,
            only_first=tuple(self.limited),
            refused=tuple(self.refused),
        )

    def _numbers(
        self, known: KnownObjects, census: Mapping[str, int] | None
    ) -> tuple[dict[str, int], dict[str, list[str]]]:
        """Return the number of facts of each object to fetch, and the ids of these objects by origin.

        They are the first objects in the seed's order that fill the sample with LEAST_SHARE facts each.
        """
        numbers: dict[str, int] = {}
        origins: dict[str, list[str]] = {}
        groups = known.named
        if not groups:
            groups = known.others() if census is None else in_seeded_order({CENSUS: list(census)}, self.order.start)
        reached = 0
        for origin, item, number in self._counted(groups, census or {}):
            numbers[item] = number
            origins.setdefault(origin, []).append(item)
            reached += min(number, LEAST_SHARE)
            if self.limit is not None and reached >= self.limit:
                break
        return numbers, origins

    def _counted(self, groups: ObjectGroups, census: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
        """Yield (origin, object, number of facts) of each object that has facts."""
        seen: set[str] = set()
        total = sum(len(group.ids) for group in groups)
        for group in groups:
            size = GUESSES if group.guessed else 1
            ids = [one for one in group.ids if one not in seen]
            seen.update(ids)
            for start in range(0, len(ids), size):
                batch = tuple(ids[start : start + size])
                found = ((one, census[one]) for one in batch) if census else self._count(batch)
                yield from ((group.origin, one, number) for one, number in found)
                self.progress(f"objects of {self.whole.relation}", len(seen) - len(ids) + start + len(batch), total)

    def _count(self, batch: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        """Yield each object of a batch that has facts, with their number; a batch without any takes one query."""
        pattern = Part(self.whole.relation, batch).pattern
        if len(batch) == 1:
            number = self.reader.endpoint.count_unless_refused(pattern, Part(self.whole.relation).pattern)
            if number is None:
                self.refused.append(batch[0])
            elif number:
                yield batch[0], number
            return
        try:
            if self.reader.endpoint.count(pattern, HEAVY_ATTEMPTS) == 0:
                return
        except HeavyAnswerError:
            pass  # The batch has many facts; the service's index counts those of a single object.
        for half in halves(batch):
            yield from self._count(half)

    def _pairs(self, numbers: Mapping[str, int], share: int | None) -> set[Pair]:
        """Return at most `share` facts (None: all) of each object, given with its number of facts in `numbers`."""
        page = self.reader.page_rows
        most = page if share is None else min(share, page)
        ordered = sorted(numbers.items(), key=lambda entry: id_number(entry[0]))
        small = [(item, number) for item, number in ordered if number <= most]
        large = [(item, number) for item, number in ordered if number > most]
        try:
            pairs = set(self.reader.pairs(self.reader.packed(Part(self.whole.relation), small)))
        except RefusedError:
            pairs, large = set(), ordered
        for done, (item, number) in enumerate(large):
            self.progress(f"facts of {self.whole.relation}", done, len(large))
            pairs |= self._of_large(item, number, share)
        return pairs

    def _of_large(self, item: str, number: int, share: int | None) -> set[Pair]:
        """Return at most `share` facts (None: all), by the seed, of an object that has `number` facts.

        If the service does not manage all facts, they are drawn from those that it gives first. Their order is the
        service's; the journal keeps the answer, so that a resumed fetch has the same.
        """
        part = Part(self.whole.relation, (item,), facts=number)
        if number <= self.reader.scan_rows:
            try:
                return self.reader.everything(part) if share is None else self.reader.sample(part, share, self.order)
            except RefusedError:
                pass
        try:
            first = self.reader.first(part, number if share is None else FIRST_FACTS * share)
        except RefusedError:
            self.refused.append(item)
            return set()
        self.limited.append(item)
        sample = Sample(self.order, len(first) if share is None else share)
        sample.add(first)
        return sample.pairs

    def _completed(self, pairs: set[Pair]) -> set[Pair]:
        """Return the pairs and all other facts of their subjects."""
        subjects = [f"Q{number}" for number in sorted({subject for subject, _ in pairs})]
        for start in range(0, len(subjects), SUBJECTS_AT_ONCE):
            self.progress(f"subjects of {self.whole.relation}", start, len(subjects))
            batch = subjects[start : start + SUBJECTS_AT_ONCE]
            pairs |= set(self.reader.items(batch_rows(self.reader.endpoint, self._of_subjects, "?s ?o", batch)))
        return pairs

    def _of_subjects(self, batch: tuple[str, ...]) -> str:
        return f"{values_of('?s', batch)} ?s wdt:{property_id(self.whole.relation)} ?o ."


def even_share(numbers: list[int], limit: int) -> int:
    """Return the smallest share, at least LEAST_SHARE, at which objects of these numbers give `limit` facts, or all."""
    low, high = LEAST_SHARE, max([LEAST_SHARE, *numbers])
    while low < high:
        middle = (low + high) // 2
        if sum(min(number, middle) for number in numbers) >= limit:
            high = middle
        else:
            low = middle + 1
    return low
