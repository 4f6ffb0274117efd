"""The purpose of a dataset, its wrong uses and the people it is about: for its card and its Croissant metadata.

The texts are the same in both. What depends on a build is read from its manifest and counted in its records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cfbuild.facts.relations import PERSONAL, RELATIONS
from cfbuild.records.composition import Composition
from cfbuild.store.manifest import Manifest
from cfbuild.text.safe import visible

SENSITIVE = frozenset({"P21", "P91", "P102", "P140", "P172", "P1050", "P509"})
"""Relations about what article 9 of the EU's General Data Protection Regulation protects, or close to it: sex or
gender, sexual orientation, party, religion, ethnic group, medical condition, cause of death."""
USES = (
    "Measuring how well an editor of language models makes a model believe a stated fact, how far that carries over to "
    "other wordings and to what follows from it, and what else it changes.",
    "Studying where and how language models keep facts.",
)
MISUSES = (
    "As knowledge: every record states a false fact about a real thing, and many about a real person. Nothing may be "
    "looked up in it.",
    "As training data for a model that people will ask for facts, and in a corpus for pretraining: such a model would "
    "learn the false facts.",
    "For misinformation: to make a model, or a text, state falsehoods about people, places or organisations to anybody "
    "who does not know that they are false.",
    "To judge people: what it says of a person is false in part by design, and says nothing of that person.",
)
BIASES = (
    "Whom Wikidata describes: more men than women, more of Europe and North America than of elsewhere, more of the "
    "recent past, and what has pages in many Wikipedias most of all.",
    "Prompts are templates written by hand, so their wording is plainer and more uniform than what people ask.",
    "Subjects were kept whose names the rules can handle: no ambiguous ones, and none that gives its object away.",
)
FILTER_BIAS = "False objects are those that {model} finds unlikely: the set is harder for that model than for others."
LIMITATIONS = (
    "The true objects are those of Wikidata on the day of the fetch; it has errors, and facts change.",
    "That an object is false is known as far as Wikidata knows all objects of a subject.",
    "Answers are compared as names: a model that says the same in other words counts as wrong.",
)
IMPACT = (
    "Editors that are measured with it can correct models and can make them lie. The records name real people, who did "
    "not agree to that; only what Wikidata states of them publicly is in it, beside the false object."
)
NEVER_ANNOTATED = "No people annotated, wrote or rated it: templates were written for cfbuild or come from ParaRel."
PLAN = (
    "It is not changed: `manifest.json` holds every setting and digest, from which cfbuild builds it again, or anew "
    "from facts of another day. Who is named in it and wants not to be writes to the owner of the repository."
)


@dataclass(frozen=True, slots=True)
class Responsible:
    """Texts of a dataset's metadata about how it was made and about the people in it."""

    collection: str
    kinds_of_collection: tuple[str, ...]
    days: tuple[str, ...]
    processing: tuple[str, ...]
    tools: tuple[str, ...]
    biases: tuple[str, ...]
    personal: tuple[str, ...]


def statement(manifest: Manifest, counted: Composition) -> Responsible:
    """Return the texts for the dataset of a build."""
    fetched, generated = manifest.entry("fetch"), manifest.entry("generate")
    judge = generated.config.get("model_filter") or {}
    model = visible(str(judge["model"])) if "model" in judge else None
    source = visible(str(fetched.config.get("source", "an unknown source")))
    return Responsible(
        collection=f"Facts, names and aliases of Wikidata, from the source `{source}` of cfbuild {manifest.version}; "
        "prompts are templates in which a name is filled.",
        kinds_of_collection=("Web API" if source == "wikidata" else "Others", "Secondary Data analysis"),
        days=_days(fetched.counted),
        processing=tuple(_processing(generated.counted, model)),
        tools=(f"cfbuild {manifest.version}", *([model] if model else [])),
        biases=(*BIASES, *([FILTER_BIAS.format(model=model)] if model else [])),
        personal=tuple(_personal(counted)),
    )


def _days(fetched: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the days of the first and the last answer of the source; none if nothing was fetched."""
    retrieved = fetched.get("retrieved") or {}
    return tuple(dict.fromkeys(str(time)[: len("2026-11-26")] for time in retrieved.values() if time))


def _processing(generated: Mapping[str, Any], model: str | None) -> Iterator[str]:
    if "by_rule" in generated:
        dropped = sum(generated["by_rule"].values())
        yield f"Of {generated['facts']:,} facts rules dropped {dropped:,}; `rejected` has each with its reason."
    yield "Each true object was replaced by a false one of the same relation, of the nearest class that any shares."
    if model:
        yield f"False objects that the model {model} finds likely were dropped."


def _personal(counted: Composition) -> Iterator[str]:
    records = {relation: counts["records"] for relation, counts in counted.by_relation.items()}
    people = {relation: count for relation, count in records.items() if relation in PERSONAL}
    about, all_records = sum(people.values()), counted.total["records"]
    yield (
        f"At least {about:,} of {all_records:,} records are about people, most of them with a page in Wikipedia: their "
        "names and what Wikidata states of them, such as place of birth, citizenship, occupation. No addresses, "
        "numbers, pictures or accounts are in it."
    )
    if sensitive := {relation: count for relation, count in records.items() if relation in SENSITIVE}:
        names = {relation: RELATIONS[relation].name if relation in RELATIONS else relation for relation in sensitive}
        named = ", ".join(f"{names[relation]} ({relation}, {count:,})" for relation, count in sensitive.items())
        yield f"Among them are sensitive ones: {named}."
