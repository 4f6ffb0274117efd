"""All kinds of questions beyond CounterFact's: the groups of every record, and those that are made on request.

A kind is a function in a file of this folder and a line in the table KINDS. Its answers follow from facts alone;
`audit/group_answers.py` checks them against the facts again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from cfbuild.records.groups import GROUPS, Group
from cfbuild.records.kinds.aliased import object_aliases
from cfbuild.records.kinds.chains import chains
from cfbuild.records.kinds.choices import multiple_choice, same_entity, yes_no
from cfbuild.records.kinds.staying import (
    MOST,
    ancestors,
    forgetting,
    object_specificity,
    relation_specificity,
    siblings,
)

KINDS: Mapping[str, Group] = MappingProxyType(
    {
        **GROUPS,
        "object_aliases": Group(object_aliases, "o* by another name likelier than the true object"),
        "chains": Group(chains, "what follows from o* likelier in a question over three or four facts", most=3),
        "same_entity": Group(same_entity, "right answer likelier to whether two descriptions are of one thing"),
        "yes_no": Group(yes_no, "right answer likelier to whether a stated fact is so"),
        "multiple_choice": Group(multiple_choice, "o*'s letter likelier than the true object's, of four"),
        "relation_specificity": Group(
            relation_specificity, "other facts of the subject stay likelier", MOST, stays_true=True
        ),
        "object_specificity": Group(
            object_specificity, "other facts of both objects stay likelier", 2 * MOST, stays_true=True
        ),
        "forgetting": Group(forgetting, "other objects of the subject stay likelier than a false one", stays_true=True),
        "siblings": Group(
            siblings, "objects of other things of the subject's class stay likelier", MOST, stays_true=True
        ),
        "ancestors": Group(ancestors, "the subject's class stays likelier than that of o*", stays_true=True),
    }
)
"""All kinds, in the order of a record's `meta.groups`.

Records have those that are not in GROUPS only on request, since they double what has to be scored.
"""
EVERY = "all"
"""The name that chooses all kinds."""


def chosen_kinds(names: Collection[str]) -> tuple[str, ...]:
    """Return the chosen names of kinds in the table's order; EVERY chooses all of them."""
    return tuple(name for name in KINDS if name in names or EVERY in names)
