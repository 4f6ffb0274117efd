"""Check the bundled snapshot against a Wikidata excerpt: `check_snapshot.py EXCERPT` (N-Triples, gzip or plain).

Every id must be in the excerpt under the label that the snapshot gives it. Nobody may be in the snapshot whom the
excerpt calls a criminal of some kind or says was convicted, nothing of a relation whose facts end unnoticed, and
nothing that a reviewer took out (`snapshot_removed.tsv` beside this file; `*` stands for all relations). `sensitive`
there are people about whom no made-up sentence should be written, whatever is said of them elsewhere: the list is kept
wide, and to be on it says nothing about anybody.
Whether the excerpt, which holds a part of Wikidata, has the fact itself is counted and the rest listed; another object
for the same subject is shown beside it. Exits with 1 for what must not be, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cfbuild.sources.snapshot import Line, labels, rows

TRIPLE = re.compile(r"<http://www\.wikidata\.org/entity/(Q\d+)> <([^>]+)> (.+) \.$")
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
DIRECT = "http://www.wikidata.org/prop/direct/"
ITEM = re.compile(r"<http://www\.wikidata\.org/entity/(Q\d+)>$")
ENGLISH = "@en"
REMOVED = Path(__file__).with_name("snapshot_removed.tsv")
OCCUPATION, CONVICTED_OF = "P106", "P1399"
CRIMINAL = re.compile(
    r"\b(?:criminal|murderer|killer|assassin|terrorist|mobster|gangster|robber|thief|rapist|trafficker|fraudster|"
    r"swindler|torturer|slave trader|pirate|spy)\b",
    re.IGNORECASE,
)
"""Words in the names of occupations."""
PASSING = {"P26": "spouse", "P39": "position held", "P54": "team", "P108": "employer", "P264": "label", "P551": "home"}
"""Relations whose facts end while the subject goes on, so that a snapshot would soon tell what was true once."""


@dataclass
class Excerpt:
    """Return English labels, and objects by (subject, relation), of an excerpt."""

    labels: dict[str, str] = field(default_factory=dict)
    objects: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))

    def has(self, row: Line) -> bool:
        return row.object in self.objects.get((row.subject, row.relation), ())

    def others(self, row: Line) -> list[str]:
        """Labels of objects that the excerpt gives the subject instead."""
        found = self.objects.get((row.subject, row.relation), set()) - {row.object}
        return sorted(self.labels.get(item, item) for item in found)


def read_excerpt(path: Path) -> Excerpt:
    """Read labels in English and direct facts."""
    excerpt = Excerpt()
    for line in read_lines(path):
        match = TRIPLE.match(line)
        if match is None:
            continue
        subject, predicate, value = match.groups()
        if predicate == LABEL and value.endswith(ENGLISH):
            # N-Triples' escapes are JSON's, but for \U, which labels of well-known things have no use for.
            excerpt.labels[subject] = json.loads(value.removesuffix(ENGLISH))
        elif predicate.startswith(DIRECT) and (item := ITEM.match(value)):
            excerpt.objects[subject, predicate.removeprefix(DIRECT)].add(item[1])
    return excerpt


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, unpacked if its name ends in .gz."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
        yield from stream


def wrong_labels(excerpt: Excerpt) -> Iterator[str]:
    """Yield a line for every item of the snapshot that the excerpt does not know by that name."""
    for item, label in labels().items():
        known = excerpt.labels.get(item)
        if known != label:
            yield f"{item}: the snapshot says {label!r}, the excerpt {known!r}"


def removed() -> dict[tuple[str, str], str]:
    """Return the removals of reviewers: the reason by relation, or `*` for all, and subject."""
    lines = REMOVED.read_text(encoding="utf-8").splitlines()[1:]
    return {(relation, subject): reason for relation, subject, _, reason in (line.split("\t") for line in lines)}


def unwanted() -> Iterator[str]:
    """Yield a line for every fact of the snapshot that a reviewer took out, or that will end unnoticed."""
    gone = removed()
    for row in rows():
        reason = gone.get(("*", row.subject)) or gone.get((row.relation, row.subject))
        if reason is not None:
            yield f"{row.relation} {row.subject_label}: was taken out before ({reason})"
        if row.relation in PASSING:
            yield f"{row.relation} {row.subject_label}: a fact of {PASSING[row.relation]} ends unnoticed"


def criminals(excerpt: Excerpt) -> Iterator[str]:
    """Yield a line for every subject that the excerpt calls a criminal, or says was convicted."""
    for subject, label in {row.subject: row.subject_label for row in rows()}.items():
        occupations = [excerpt.labels.get(one, "") for one in excerpt.objects.get((subject, OCCUPATION), ())]
        found = [name for name in occupations if CRIMINAL.search(name)]
        if found or excerpt.objects.get((subject, CONVICTED_OF)):
            yield f"{subject}: {label} is {', '.join(found) or 'convicted'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("excerpt", type=Path)
    excerpt = read_excerpt(parser.parse_args().excerpt)
    wrong = list(wrong_labels(excerpt))
    for line in wrong:
        print(f"WRONG {line}")
    barred = [*unwanted(), *criminals(excerpt)]
    for line in barred:
        print(f"UNWANTED {line}")
    absent: dict[str, list[Line]] = defaultdict(list)
    for row in rows():
        if not excerpt.has(row):
            absent[row.relation].append(row)
    for relation, facts in absent.items():
        print(f"{relation}: {len(facts)} facts not in the excerpt")
        for row in facts:
            others = excerpt.others(row)
            instead = f"   (the excerpt: {', '.join(others)})" if others else ""
            print(f"  {row.subject_label} -> {row.object_label}{instead}")
    count = Counter(row.relation for row in rows())
    confirmed = len(rows()) - sum(map(len, absent.values()))
    print(
        f"{len(rows())} facts of {len(count)} relations, {confirmed} in the excerpt, {len(wrong)} wrong ids or labels"
    )
    return 1 if wrong or barred else 0


if __name__ == "__main__":
    sys.exit(main())
