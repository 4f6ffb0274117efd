"""Drafts and records from facts and templates, without a model or files (paper section 3.4).

A draft is a record whose o* is not chosen yet. Each random choice comes from its own generator, seeded with the seed,
the relation, the subject and the part's name. So a record does not depend on which others are built, in what order, or
where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random

from cfbuild.data import (
    SLOT,
    EntityPrompt,
    Fact,
    Paraphrase,
    Record,
    Reference,
    Target,
    Template,
    article_before,
)
from cfbuild.errors import TemplateError
from cfbuild.facts.graph import FactGraph
from cfbuild.facts.subjects import with_number
from cfbuild.records.asking import ArticledTemplate, FittingTemplates, NameForm, NameForms
from cfbuild.records.draft import BuildOptions, Draft, Outline
from cfbuild.records.pools import Pools, is_usable
from cfbuild.records.shuffling import sampled, shuffled
from cfbuild.text.names import find_name, gives_away
from cfbuild.text.scripts import stated

RefuseTarget = Callable[[Fact, Target], "str | None"]
"""A function of a fact and an o* that returns the name of the rule that refuses the o*, or None."""

Lasts = Callable[[str, str, str], bool]
"""A function of an item, a relation and its object that returns True if the item has this object alone, unchanged."""

PREFERRED_TIERS = 2
"""The number of tiers of preferred entities: those with a single object, and those with several."""


class Builder:
    """A maker of drafts and records from the facts of a graph.

    prefixes: returns the sentences that may stand before a relation's paraphrases; without any, they have no prefix.
    suits: returns True if a relation's prompts make sense about an item; only such items become neighbors or attribute
    entities.
    min_pool: see `Pools`.
    """

    def __init__(
        self,
        graph: FactGraph,
        templates: Iterable[Template],
        options: BuildOptions,
        prefixes: Callable[[str], Sequence[str]] = lambda relation: (),
        suits: Callable[[str, str], bool] = lambda relation, item: True,
        min_pool: int = 0,
    ) -> None:
        self.graph = graph
        self.options = options
        self.pools = Pools(graph, min_pool)
        self._suits = suits
        self._prefixes = prefixes
        self._templates: dict[tuple[str, str], list[Template]] = {}
        for key, template in sorted({(one.relation, one.kind, one.text): one for one in templates}.items()):
            self._templates.setdefault(key[:2], []).append(with_number(template, graph.wording))
        self._tiers: dict[tuple[str, str], tuple[tuple[Target, ...], ...]] = {}
        self._with_several: set[tuple[str, str]] = set()
        self._forms = NameForms(graph)
        self._clashing: dict[tuple[str, str], frozenset[str]] = {}
        self._fitting: dict[tuple[str, frozenset[str], int], FittingTemplates] = {}
        self._texts_of: dict[tuple[str, NameForm], tuple[list[str], list[str]]] = {}
        self._preferred: Callable[[str, str, str], bool] | None = None

    def prefer(self, preferred: Callable[[str, str, str], bool]) -> None:
        """Take neighbors and attribute entities for which `preferred(item, relation, object)` is True before others."""
        self._preferred = preferred

    def templates(self, relation: str, kind: str = "rewrite") -> Sequence[Template]:
        """Return the relation's templates of a kind (`rewrite` or `generation`), each text once, sorted by text."""
        return self._templates.get((relation, kind), [])

    def _fitting_templates(self, fact: Fact, needed: int) -> Mapping[NameForm, Sequence[ArticledTemplate]]:
        """Return the rewrite templates that o_c can follow, by the form of the items that they can ask about."""
        clashes = self._clashes(fact)
        key = fact.relation, clashes, needed
        if key not in self._fitting:
            templates = [one for one in self.templates(fact.relation) if one.text not in clashes]
            self._fitting[key] = FittingTemplates(templates, needed)
        return self._fitting[key]

    def _clashes(self, fact: Fact) -> frozenset[str]:
        """Return the texts of the rewrite templates that end in an article which o_c cannot follow."""
        key = fact.relation, fact.object
        if key not in self._clashing:
            label, clash = self.graph.label(fact.object) or "", self.graph.wording.article_clash
            texts = (one.text for one in self.templates(fact.relation))
            self._clashing[key] = frozenset(text for text in texts if clash(text, label) is not None)
        return self._clashing[key]

    def _texts(self, relation: str, item: str) -> tuple[list[str], list[str]]:
        """Return the texts of the generation and rewrite templates that suit `item`, its article before their slot."""
        form = self._forms[item]
        key = relation, form
        if key not in self._texts_of:
            by_kind = self.templates(relation, "generation"), self.templates(relation)
            generation, rewrite = (
                [article_before(one.text, form.article) for one in templates if one.suits(form.kinds)]
                for templates in by_kind
            )
            self._texts_of[key] = generation, rewrite
        return self._texts_of[key]

    def outline(
        self,
        fact: Fact,
        refusal: RefuseTarget = lambda fact, target: None,
        enough: int = 0,
        most: int | None = None,
    ) -> Outline:
        """Return the neighborhood prompts of a fact and the o* to try, none of which `refusal` refuses.

        enough: the fewest neighborhood prompts of a record. With fewer, the rules reject the fact: one o* is drawn.
        most: the most o*; None for `max_draws`.
        Raises TemplateError if a label is not usable; the rules reject such a fact before.
        """
        neighbors = self._neighbors(fact, enough)
        prompts = self._entity_prompts(fact, "neighborhood", neighbors, self.options.neighborhood)
        most = 1 if len(prompts) < enough else most or self.options.max_draws
        draws, refused = self._draws(fact, neighbors, refusal, most)
        return Outline(prompts, draws, refused)

    def draft(
        self,
        case_id: int,
        fact: Fact,
        refusal: RefuseTarget = lambda fact, target: None,
        outline: Outline | None = None,
    ) -> Draft:
        """Return the draft of a fact: all prompts that do not depend on o*, and the o* to try.

        refusal: as in `outline`, which is called if `outline` is None.
        Raises TemplateError if the relation has too few rewrite templates or a label is not usable; the rules reject
        such a fact before.
        """
        subject, target_true = self._target(fact.subject), self._target(fact.object)
        neighborhood, draws, refused = outline or self.outline(fact, refusal)
        rewrite, *others = self._rewrite_and_paraphrases(fact)
        return Draft(
            case_id=case_id,
            fact=fact,
            prompt=Template(fact.relation, "rewrite", rewrite.text, rewrite.template.origin),
            subject=subject,
            target_true=target_true,
            paraphrases=self._paraphrases(fact, subject, others, draws),
            neighborhood=neighborhood,
            generation=self._generation(fact, subject),
            draws=draws,
            refused=refused,
        )

    def outline_change(self, fact: Fact, now: str, lasts: Lasts, enough: int = 0) -> Outline:
        """Return the outline of a real change, whose only o* is `now`, the object that took the place of the fact's.

        Neighbors still have the fact's object, as `lasts` decides. enough: as in `outline`.
        """

        def fits(entity: str) -> bool:
            return lasts(entity, fact.relation, fact.object) and now not in self.graph.values(entity, fact.relation)

        neighbors = self._neighbors(fact, enough, fits)
        prompts = self._entity_prompts(fact, "neighborhood", neighbors, self.options.neighborhood)
        return Outline(prompts, (self._target(now),), {})

    def record(
        self,
        draft: Draft,
        target_new: Target,
        lasts: Lasts | None = None,
        attributes: Sequence[Target] | None = None,
    ) -> Record:
        """Return the record of a draft and the chosen o*, with attribute prompts about other entities that have o*.

        An attribute entity does not have o_c, is no neighbor, and is not named like the subject.
        lasts: decides which entities still have o* in a record of a real change; None for any that has it.
        attributes: the attribute entities; None to choose them.
        """
        fact = draft.fact
        attributes = self._attribute_entities(draft, target_new, lasts) if attributes is None else attributes
        return Record(
            case_id=draft.case_id,
            relation=fact.relation,
            prompt=draft.prompt,
            subject=draft.subject,
            target_true=draft.target_true,
            target_new=target_new,
            paraphrases=draft.paraphrases,
            neighborhood=draft.neighborhood,
            attribute=self._entity_prompts(fact, f"attribute:{target_new.id}", attributes, self.options.attribute),
            generation=draft.generation,
            language=self.graph.language,
            source=fact.source,
            shared_class=self.pools.shared_class(fact.relation, fact.object, target_new.id),
        )

    def references(self, relations: Iterable[str] | None = None) -> Iterator[Reference]:
        """Return an iterator over the facts of `relations` (None for all) as sentences; see `sentences`."""
        case_ids = map(self.graph.case_ids, self.graph.relations if relations is None else relations)
        return self.sentences(fact for one in case_ids for _, fact in self.graph.cases(one))

    def sentences(self, facts: Iterable[Fact]) -> Iterator[Reference]:
        """Yield each fact as a sentence: a filled rewrite template, the object, a period.

        Generations about o* are compared with these sentences (RS) where there are no texts from Wikipedia. A fact has
        no sentence if its relation has no rewrite template or a label is not usable.
        """
        for fact in facts:
            _, texts = self._texts(fact.relation, fact.subject) if self.templates(fact.relation) else ([], [])
            subject, value = self.graph.label(fact.subject), self.graph.label(fact.object)
            if texts and is_usable(subject) and is_usable(value):
                text = self._random(fact, f"reference:{fact.object}").choice(texts)
                sentence = stated(text.replace(SLOT, subject), value)
                yield Reference(fact.relation, fact.object, fact.subject, subject, sentence)

    def forget(self) -> None:
        """Clear what is kept for each relation: it takes the most memory, and other relations do not use it."""
        self.pools.forget()
        for kept in (self._tiers, self._with_several, self._forms, self._clashing, self._fitting, self._texts_of):
            kept.clear()

    def _random(self, fact: Fact, part: str) -> Random:
        return Random(f"{self.options.seed}:{fact.relation}:{fact.subject}:{part}")

    def _target(self, item: str) -> Target:
        label = self.graph.label(item)
        if not is_usable(label):
            raise TemplateError(f"{item} has the label {label!r} in {self.graph.language!r}; expected a name")
        return Target(item, label)

    def _rewrite_and_paraphrases(self, fact: Fact) -> list[ArticledTemplate]:
        """Return the templates of the rewrite and of each paraphrase, in seeded order."""
        needed = 1 + self.options.paraphrases
        templates = self._fitting_templates(fact, needed)[self._forms[fact.subject]]
        if len(templates) < needed:
            raise TemplateError(
                f"{fact.relation} has {len(templates)} rewrite templates for {fact.subject}; expected at least "
                f"{needed}: one for the rewrite and one for each paraphrase"
            )
        return self._random(fact, "rewrite").sample(templates, needed)

    def _paraphrases(
        self, fact: Fact, subject: Target, templates: Sequence[ArticledTemplate], draws: Iterable[Target]
    ) -> tuple[Paraphrase, ...]:
        """Return a paraphrase for each template, each with a prefix of its own as long as there are any.

        A prefix names neither the subject nor any object that the record may get.
        """
        items = (fact.subject, fact.object, *(target.id for target in draws))
        names = [name for item in items for name in self.graph.names(item)]
        prefixes = shuffled(self._random(fact, "prefix"), self._prefixes(fact.relation))
        silent = (prefix for prefix in prefixes if find_name(prefix, names) is None)
        texts = ((template.text.replace(SLOT, subject.label), template.template.id) for template in templates)
        return tuple(Paraphrase(next(silent, ""), text, template_id) for text, template_id in texts)

    def _generation(self, fact: Fact, subject: Target) -> tuple[str, ...]:
        """Return distinct generation prompts: from the generation templates in seeded order, then from the rewrites.

        CounterFact fills up to ten by repeating its three. A rewrite template says more than a repetition, and is all
        there is where a template set has no generation templates (ParaRel's).
        """
        random = self._random(fact, "generation")
        found: dict[str, None] = {}
        for texts in self._texts(fact.relation, fact.subject):
            for text in random.sample(texts, len(texts)):
                found[text.replace(SLOT, subject.label)] = None
                if len(found) == self.options.generation:
                    return tuple(found)
        return tuple(found)

    def _draws(
        self, fact: Fact, neighbors: Iterable[Target], refusal: RefuseTarget, most: int
    ) -> tuple[tuple[Target, ...], dict[str, int]]:
        """Return at most `most` false objects, drawn without replacement, and the number of refusals by rule.

        Never drawn are the subject itself, an object of the subject or of a neighbor under this relation, and an object
        that shares a name with one of those objects.
        """
        excluded = {*self.graph.values(fact.subject, fact.relation)}
        excluded.update(*(self._objects(neighbor.id, fact.relation, fact.object) for neighbor in neighbors))
        names = frozenset().union(*map(self.graph.folded_names, excluded))
        excluded.add(fact.subject)
        draws: list[Target] = []
        refused: dict[str, int] = {}
        for target in self.pools.drawn(fact.relation, fact.object, self._random(fact, "draws")):
            if target.id in excluded or not names.isdisjoint(self.graph.folded_names(target.id)):
                continue
            rule = refusal(fact, target)
            if rule is not None:
                refused[rule] = refused.get(rule, 0) + 1
                continue
            draws.append(target)
            if len(draws) == most:
                break
        return tuple(draws), refused

    def _neighbors(self, fact: Fact, enough: int, fits: Callable[[str], bool] = lambda entity: True) -> list[Target]:
        random, most = self._random(fact, "neighborhood"), self.options.neighborhood
        return self._choose(random, fact, fact.object, most, fits, enough)

    def _attribute_entities(self, draft: Draft, target_new: Target, lasts: Lasts | None) -> list[Target]:
        fact, relation = draft.fact, draft.fact.relation

        def fits(entity: str) -> bool:
            lasting = lasts is None or lasts(entity, relation, target_new.id)
            return lasting and fact.object not in self._objects(entity, relation, target_new.id)

        random = self._random(fact, f"attribute-entities:{target_new.id}")
        return self._choose(random, fact, target_new.id, self.options.attribute, fits)

    def _choose(
        self, random: Random, fact: Fact, value: str, most: int, fits: Callable[[str], bool], enough: int = 0
    ) -> list[Target]:
        """Return at most `most` entities that have the object `value` and that fit, each label once.

        None is the fact's subject or named like it: neither name contains the other.
        enough: the number of preferred entities at which no others are taken.
        """
        chosen: dict[str, Target] = {}
        subject = self._target(fact.subject)
        own = subject.label.casefold()
        for number, tier in enumerate(self._entities(fact.relation, value)):
            if number == PREFERRED_TIERS and len(chosen) >= enough:
                break
            for entity in shuffled(random, tier):
                if len(chosen) == most:
                    return list(chosen.values())
                name = entity.label.casefold()
                # Names are seldom alike: comparing their letters saves most calls of `_alike`.
                alike = (name in own or own in name) and _alike(entity.label, subject.label)
                if not alike and entity.id != subject.id and name not in chosen and fits(entity.id):
                    chosen[name] = entity
        return list(chosen.values())

    def _entities(self, relation: str, value: str) -> tuple[tuple[Target, ...], ...]:
        """Return tiers of the entities that have `value`: those with this value alone, then those with several.

        After `prefer`, the first PREFERRED_TIERS are the preferred entities'. No tier has an entity whose name gives
        the value away or that no template can ask about.
        """
        key = (relation, value)
        if key not in self._tiers:
            tiers: tuple[list[Target], ...] = ([], [], [], [])
            for item, several in self.graph.holders(relation, value):
                entity = self.entity(item, relation, value)
                if entity is not None:
                    if several:
                        self._with_several.add((item, relation))
                    later = self._preferred is not None and not self._preferred(item, relation, value)
                    tiers[later * PREFERRED_TIERS + several].append(entity)
            self._tiers[key] = tuple(tuple(tier) for tier in tiers if tier or self._preferred)
        return self._tiers[key]

    def _objects(self, entity: str, relation: str, value: str) -> Sequence[str]:
        """Return the objects of an entity out of `_entities(relation, value)`: mostly `value` alone, without a look."""
        return self.graph.values(entity, relation) if (entity, relation) in self._with_several else (value,)

    def entity(self, item: str, relation: str, value: str) -> Target | None:
        """Return an item with its name if a prompt of `relation` can ask about it without giving `value` away."""
        label, wording = self.graph.label(item), self.graph.wording
        if not is_usable(label) or wording.noise(label) is not None:
            return None
        if not self._suits(relation, item) or not self._texts(relation, item)[1]:
            return None
        given = gives_away(label, self.graph.label(value) or "", self.graph.names(value), wording)
        return Target(item, label) if given is None else None

    def same_entities(self, fact: Fact, value: str, items: Iterable[str]) -> tuple[list[Target], list[str]]:
        """Return the items that can be asked about in this language, with their names, and the ids of the others.

        items: entities that have `value`, chosen in another language.
        """
        subject, chosen, others = self._target(fact.subject), dict[str, Target](), list[str]()
        for item in items:
            entity = self.entity(item, fact.relation, value)
            if entity is None or entity.label.casefold() in chosen or _alike(entity.label, subject.label):
                others.append(item)
            else:
                chosen[entity.label.casefold()] = entity
        return list(chosen.values()), others

    def prompts_about(self, fact: Fact, entities: Sequence[Target], most: int) -> tuple[EntityPrompt, ...]:
        """Return at most `most` neighborhood prompts about the entities."""
        return self._entity_prompts(fact, "neighborhood", entities, most)

    def _entity_prompts(self, fact: Fact, part: str, entities: Sequence[Target], most: int) -> tuple[EntityPrompt, ...]:
        """Return at most `most` prompts: one for each entity, then second ones by other templates, and so on.

        part: the prompts' name in the seed of the choice of templates.
        """
        random, rounds = self._random(fact, f"{part}-templates"), self.options.prompts_per_entity
        fitting, forms = self._fitting_templates(fact, rounds), self._forms
        chosen = [sampled(random, fitting[forms[entity.id]], rounds) for entity in entities]
        prompts: dict[str, EntityPrompt] = {}
        for number in range(max(map(len, chosen), default=0)):
            for entity, templates in zip(entities, chosen, strict=True):
                if number < len(templates):
                    text = templates[number].text.replace(SLOT, entity.label)
                    if text not in prompts:
                        prompts[text] = EntityPrompt(text, entity.id, templates[number].template.id)
        return tuple(prompts.values())[:most]


def _alike(label: str, other_label: str) -> bool:
    """Return True if two labels are equal, letter case ignored, or one is a name in the other."""
    same = label.casefold() == other_label.casefold()
    return same or find_name(label, (other_label,)) is not None or find_name(other_label, (label,)) is not None
