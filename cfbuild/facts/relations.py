"""The table of Wikidata's relations with special properties, which rules, groups, sources and templates read.

A relation without a line in RELATIONS has none of these properties. To give it one, add a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

INSTANCE_OF = "P31"
SEX_OR_GENDER = "P21"
SUBCLASS_OF = "P279"


@dataclass(frozen=True, slots=True)
class Relation:
    """The properties of a relation that do not depend on its facts.

    symmetric: it holds in both directions (Wikidata's symmetric constraint). open: its subjects have many objects, of
    which facts name few. personal: its templates are about a person. contains: its object contains the subject, so
    whoever was born in the subject was born in the object too. inverse: the relation that says the same the other way
    round (Wikidata's P1696). no_templates: the reason why it has no templates.
    """

    name: str
    symmetric: bool = False
    open: bool = False
    personal: bool = False
    contains: bool = False
    inverse: str | None = None
    no_templates: str | None = None


_ATTRIBUTE = "is an attribute that rules read, not a fact to edit"

RELATIONS: Mapping[str, Relation] = MappingProxyType(
    {
        "P17": Relation("country", contains=True),
        "P19": Relation("place of birth", personal=True),
        "P20": Relation("place of death", personal=True),
        SEX_OR_GENDER: Relation("sex or gender", no_templates=f"sex or gender {_ATTRIBUTE}"),
        "P26": Relation("spouse", symmetric=True),
        "P27": Relation("country of citizenship", personal=True),
        "P30": Relation("continent", contains=True),
        INSTANCE_OF: Relation("instance of", no_templates=f"instance of {_ATTRIBUTE}"),
        "P36": Relation("capital", inverse="P1376"),
        "P39": Relation("position held", personal=True),
        "P47": Relation("shares border with", symmetric=True),
        "P101": Relation("field of work", personal=True),
        "P103": Relation("native language", personal=True),
        "P106": Relation("occupation", personal=True),
        "P108": Relation("employer", personal=True),
        "P131": Relation("located in the administrative entity", contains=True),
        "P190": Relation("twinned administrative body", symmetric=True),
        SUBCLASS_OF: Relation("subclass of", contains=True),
        "P361": Relation("part of", contains=True, inverse="P527"),
        "P413": Relation("position played", personal=True),
        "P451": Relation("unmarried partner", symmetric=True),
        "P460": Relation("said to be the same as", symmetric=True),
        "P461": Relation("opposite of", symmetric=True),
        "P527": Relation("has part", open=True, inverse="P361"),
        "P530": Relation("diplomatic relation", symmetric=True),
        "P937": Relation("work location", personal=True),
        "P1303": Relation("instrument", personal=True),
        "P1376": Relation("capital of", contains=True, inverse="P36"),
        "P1382": Relation("partially coincident with", symmetric=True),
        "P1412": Relation("languages spoken", personal=True),
        "P1889": Relation("different from", symmetric=True),
        "P3373": Relation("sibling", symmetric=True),
    }
)

SYMMETRIC = frozenset(relation for relation, known in RELATIONS.items() if known.symmetric)
OPEN = frozenset(relation for relation, known in RELATIONS.items() if known.open)
PERSONAL = frozenset(relation for relation, known in RELATIONS.items() if known.personal)
CONTAINMENT = tuple(relation for relation, known in RELATIONS.items() if known.contains)
CONTAINING = frozenset(CONTAINMENT)
INVERSE = {relation: known.inverse for relation, known in RELATIONS.items() if known.inverse}
ATTRIBUTES = (INSTANCE_OF, SEX_OR_GENDER, *CONTAINMENT)
"""The attributes of an entity that the rules read: its classes, sex or gender, and what contains it."""
