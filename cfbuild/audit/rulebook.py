"""Rules for a finished file, of anyone's making: each yields every fault it is sure of in one record.

What a rule cannot tell from the row it leaves alone: without facts, only what the texts say is judged. Rules about
facts and targets are those of `rules.py`, asked again with the build's facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cfbuild.audit.mentions import Templates, names
from cfbuild.audit.row import Prompt, Sheet
from cfbuild.data import ITEM_ID, SLOT, Fact, Measured
from cfbuild.facts.relations import SYMMETRIC
from cfbuild.filter.context import RuleContext
from cfbuild.filter.rules import FACT_RULES, TARGET_RULES
from cfbuild.store.schema.faults import Fault, show
from cfbuild.text.languages.english import clashing_article, fragment, noise, ungrammatical
from cfbuild.text.names import find_name, gives_away

ABOUT_OTHERS = ("neighborhood", "attribute")
TARGETS = ("target_true", "target_new")
SEVERAL = frozenset({"several-objects", "open-relation"})
"""Fact rules that are off where several true objects are allowed."""
NEEDLESS = frozenset({"too-few-templates"})
"""Fact rules that say nothing of a finished record."""


@dataclass(frozen=True)
class AuditContext:
    """What audit rules know beside the record: the file's templates, the limits asked for, and facts if there are.

    `about` is of the record in hand: the prompts about others, by group, each with the name of what it is about.
    """

    templates: Templates = field(default_factory=Templates)
    max_per_entity: int = 1
    allow_symmetric: bool = False
    allow_several: bool = False
    rules: RuleContext | None = None
    about: Mapping[str, Sequence[tuple[Prompt, str | None]]] = field(default_factory=dict)


AuditRule = Callable[[Sheet, AuditContext], Iterator[Fault]]


def faults(sheet: Sheet, context: AuditContext) -> list[Fault]:
    """Every fault of a record, in the tables' order, each rule at most once a place."""
    found: dict[tuple[str, str], Fault] = {}
    beside = replace(context, about={group: tuple(_about(sheet, group, context)) for group in ABOUT_OTHERS})
    for rule in AUDIT_RULES.values():
        for fault in rule(sheet, beside):
            found.setdefault((fault.rule, fault.path), fault)
    return list(found.values())


def _lacks_subject(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Rewrite, paraphrases and generation prompts are about the subject."""
    if sheet.template.count(SLOT) != 1:
        yield Fault(sheet.rewrite_path, "lacks-subject", show(sheet.template), "the subject in it once")
    for group in ("paraphrase", "generation"):
        for prompt in sheet.group(group):
            if sheet.subject.casefold() not in prompt.text.casefold():
                yield Fault(prompt.path, "lacks-subject", show(prompt.text), f"the subject {show(sheet.subject)} in it")


def _prefix_fragment(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """What stands before a paraphrase is whole sentences."""
    for place, prompt in enumerate(sheet.group("paraphrase")):
        prefix, _ = sheet.split(place)
        found = fragment(prefix) if prefix else None
        if found is not None:
            yield Fault(prompt.path, "prefix-fragment", f"{show(prefix)}, which {found}", "a whole sentence")


def _prefix_mention(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """What stands before a paraphrase names neither the subject nor an object."""
    wanted = [sheet.subject, sheet.target_true.label, sheet.target_new.label]
    if context.rules is not None:
        ids = (sheet.subject_id, sheet.target_true.id, sheet.target_new.id)
        wanted += [name for one in ids for name in context.rules.graph.names(one)]
    for place, prompt in enumerate(sheet.group("paraphrase")):
        name = find_name(sheet.split(place)[0], wanted)
        if name is not None:
            yield Fault(prompt.path, "prefix-mention", show(name), "a prefix that names no part of the fact")


def _duplicate_prompt(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Within a group no prompt comes twice."""
    for group in ("paraphrase", *ABOUT_OTHERS):
        first: dict[str, int] = {}
        for place, prompt in enumerate(sheet.group(group)):
            if prompt.text in first:
                expected = f"another prompt than number {first[prompt.text]}"
                yield Fault(prompt.path, "duplicate-prompt", show(prompt.text), expected)
            first.setdefault(prompt.text, place)


def _repeated_generation(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Generation prompts differ: texts from one prompt say the same again."""
    texts = [prompt.text for prompt in sheet.group("generation")]
    if len(set(texts)) < len(texts):
        got = f"{len(set(texts))} distinct of {len(texts)}"
        yield Fault("/generation_prompts", "repeated-generation", got, "different prompts")


def _repeated_entity(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """No entity is asked about more often than allowed within the neighborhood or the attribute prompts."""
    for group in ABOUT_OTHERS:
        count: Counter[str] = Counter()
        for prompt, name in context.about[group]:
            who = prompt.entity or name
            if who is None:
                continue
            count[who] += 1
            if count[who] > context.max_per_entity:
                got = f"{show(name or who)} for time {count[who]}"
                yield Fault(prompt.path, "repeated-entity", got, f"at most {context.max_per_entity} prompts an entity")


def _own_prompt(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Prompts about others are not the rewrite or a paraphrase themselves."""
    own = {sheet.template.replace(SLOT, sheet.subject), *(prompt.text for prompt in sheet.group("paraphrase"))}
    for group in ABOUT_OTHERS:
        for prompt in sheet.group(group):
            if prompt.text in own:
                yield Fault(prompt.path, "own-prompt", show(prompt.text), "a prompt about another subject")


def _same_targets(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """The false object is not the true one, by id or by name."""
    true, new = sheet.target_true, sheet.target_new
    if (true.id and true.id == new.id) or (true.label and true.label.casefold() == new.label.casefold()):
        yield Fault(_target_path(sheet, "target_new"), "same-targets", show(new.label), "another object than the true")


def _label_noise(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Names hold nothing that nobody would say."""
    for path, label in _labels(sheet):
        found = noise(label)
        if found is not None:
            yield Fault(path, "label-noise", f"{show(label)} with {show(found)}", "a plain name")


def _qid_label(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Names are names, not item ids."""
    for path, label in _labels(sheet):
        if ITEM_ID.match(label) or not label.strip():
            yield Fault(path, "qid-label", show(label), "a name")


def _named_in_subject(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """The subject's name gives away neither object, nor an object's name the subject."""
    for target, rule in (("target_true", "object-in-subject"), ("target_new", "target-in-subject")):
        label = getattr(sheet, target).label
        for holder, held in ((sheet.subject, label), (label, sheet.subject)):
            if holder and held and gives_away(holder, held, (held,)) is not None:
                yield Fault(_target_path(sheet, target), rule, f"{show(held)} in {show(holder)}", "names apart")


def _named_in_entity(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """A neighbor's name does not give away the object that it should be asked for."""
    for group, target in (("neighborhood", sheet.target_true), ("attribute", sheet.target_new)):
        for prompt, name in context.about[group]:
            if name is not None and target.label and gives_away(name, target.label, (target.label,)) is not None:
                yield Fault(prompt.path, "object-in-neighbor", f"{show(target.label)} in {show(name)}", "names apart")


def _article(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Both targets can follow a prompt that ends in an article."""
    prompts = [Prompt(sheet.rewrite_path, sheet.template)]
    prompts += [prompt for group in ("paraphrase", *ABOUT_OTHERS) for prompt in sheet.group(group)]
    for prompt in prompts:
        for name in TARGETS:
            label = getattr(sheet, name).label
            clash = clashing_article(prompt.text, label)
            if clash is not None:
                expected = "an article that fits both targets, or none"
                yield Fault(prompt.path, "article", f"{show(clash)} before {show(label)}", expected)


def _grammar(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Prompts are sound English up to the object, what names hold left aside."""
    texts = [(sheet.rewrite_path, sheet.template, SLOT)]
    for place, prompt in enumerate(sheet.group("paraphrase")):
        if sheet.subject in prompt.text:
            texts.append((prompt.path, sheet.split(place)[1].replace(sheet.subject, SLOT), SLOT))
    for group in ABOUT_OTHERS:
        for prompt, name in context.about[group]:
            if name is not None and name in prompt.text:
                texts.append((prompt.path, prompt.text.replace(name, SLOT), SLOT))
    for path, text, slot in texts:
        found = ungrammatical(text, slot)
        if found is not None:
            yield Fault(path, "template-grammar", f"{show(found)} in {show(text)}", "a sentence up to its object")


def _symmetric(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """The relation does not hold both ways."""
    if sheet.relation in SYMMETRIC and not context.allow_symmetric:
        expected = "a relation that holds one way"
        yield Fault("/requested_rewrite/relation_id", "symmetric-relation", show(sheet.relation), expected)


def _asked(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Prompts with answers of their own: none comes twice or is the edit's, none gives its answer away."""
    own = {sheet.template.replace(SLOT, sheet.subject), *(prompt.text for prompt in sheet.group("paraphrase"))}
    for path, prompts in sheet.asked.items():
        first: dict[str, str] = {}
        for prompt in prompts:
            if first.setdefault(prompt.text, prompt.path) != prompt.path:
                yield Fault(prompt.path, "duplicate-prompt", show(prompt.text), f"another than {first[prompt.text]}")
            if path.startswith("/locality") and prompt.text in own:
                yield Fault(prompt.path, "own-prompt", show(prompt.text), "a prompt that the edit leaves alone")
            for answer in prompt.answers:
                yield from _answered(prompt, answer)


def _answered(prompt: Prompt, answer: str) -> Iterator[Fault]:
    """What is wrong with a prompt's own answer."""
    if ITEM_ID.match(answer):
        yield Fault(prompt.path, "qid-label", show(answer), "a name")
    if (found := noise(answer)) is not None:
        yield Fault(prompt.path, "label-noise", f"{show(answer)} with {show(found)}", "a plain name")
    if (clash := clashing_article(prompt.text, answer)) is not None:
        yield Fault(prompt.path, "article", f"{show(clash)} before {show(answer)}", "an article that fits")
    if find_name(prompt.text, (answer,)) is not None:
        yield Fault(prompt.path, "answer-in-prompt", f"{show(answer)} in {show(prompt.text)}", "a prompt without it")


def _against_facts(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Fact and target rules, where the build has the fact."""
    fact = resolve(sheet, context.rules)
    if fact is None or context.rules is None:
        return
    for name, rule in FACT_RULES.items():
        measured = None if name in NEEDLESS else rule(fact, context.rules)
        if measured is not None and not (name in SEVERAL and context.allow_several):
            yield Fault("/requested_rewrite", name, _shown(measured), "a fact that the rule keeps")
    if sheet.target_new.id:
        for name, target_rule in TARGET_RULES.items():
            measured = target_rule(fact, sheet.target_new, context.rules)
            if measured is not None:
                yield Fault(_target_path(sheet, "target_new"), name, _shown(measured), "an object that the rule keeps")


def _neighbor_facts(sheet: Sheet, context: AuditContext) -> Iterator[Fault]:
    """Neighbors have o_c and not o*, attribute entities o*, where the build knows them."""
    if context.rules is None or not sheet.relation:
        return
    graph = context.rules.graph
    checks = (("neighborhood", sheet.target_true.id, sheet.target_new.id), ("attribute", sheet.target_new.id, ""))
    for group, wanted, unwanted in checks:
        for prompt in sheet.group(group):
            values = graph.values(prompt.entity, sheet.relation) if prompt.entity else ()
            if values and wanted and wanted not in values:
                yield Fault(prompt.path, "neighbor-lacks-object", show(prompt.text), f"an entity that has {wanted}")
            if unwanted and unwanted in values:
                yield Fault(prompt.path, "neighbor-has-target", show(prompt.text), f"an entity without {unwanted}")


def resolve(sheet: Sheet, rules: RuleContext | None) -> Fact | None:
    """The build's fact that a record is about: by the subject's id, or by its name if one subject has it."""
    if rules is None or not sheet.relation or not sheet.target_true.id:
        return None
    for fact in rules.facts_with(sheet.relation, sheet.target_true.id):
        if fact.subject == sheet.subject_id if sheet.subject_id else rules.graph.label(fact.subject) == sheet.subject:
            return fact
    return None


def _about(sheet: Sheet, group: str, context: AuditContext) -> Iterator[tuple[Prompt, str | None]]:
    """The prompts of a group with the name of what each is about: the build's name for it, or as the prompts tell."""
    prompts = sheet.group(group)
    told = [context.rules.graph.label(one.entity) if context.rules and one.entity else None for one in prompts]
    if all(told) or not prompts:
        yield from zip(prompts, told, strict=True)
        return
    clean = [sheet.split(place)[1] for place in range(len(sheet.group("paraphrase")))]
    own = {text.replace(sheet.subject, SLOT) for text in clean if text.count(sheet.subject) == 1}
    templates = {sheet.template, *own, *context.templates.of(sheet.relation)}
    read = names([prompt.text for prompt in prompts], templates)
    yield from ((prompt, one or other) for prompt, one, other in zip(prompts, told, read, strict=True))


def _labels(sheet: Sheet) -> Iterator[tuple[str, str]]:
    yield sheet.rewrite_path.replace("prompt", "subject"), sheet.subject
    for name in TARGETS:
        label = getattr(sheet, name).label
        # EasyEdit's rows may have no true object.
        if label or sheet.rewrite_path != "/prompt":
            yield _target_path(sheet, name), label


def _target_path(sheet: Sheet, name: str) -> str:
    if sheet.rewrite_path == "/prompt":
        return "/ground_truth" if name == "target_true" else "/target_new"
    return f"/requested_rewrite/{name}/str"


def _shown(measured: Measured) -> str:
    return ", ".join(f"{name} {value}" for name, value in measured.items())


AUDIT_RULES: Mapping[str, AuditRule] = {
    "lacks-subject": _lacks_subject,
    "prefix-fragment": _prefix_fragment,
    "prefix-mention": _prefix_mention,
    "duplicate-prompt": _duplicate_prompt,
    "repeated-generation": _repeated_generation,
    "repeated-entity": _repeated_entity,
    "own-prompt": _own_prompt,
    "same-targets": _same_targets,
    "label-noise": _label_noise,
    "qid-label": _qid_label,
    "named-in-subject": _named_in_subject,
    "object-in-neighbor": _named_in_entity,
    "article": _article,
    "template-grammar": _grammar,
    "symmetric-relation": _symmetric,
    "answer-in-prompt": _asked,
    "against-facts": _against_facts,
    "neighbor-facts": _neighbor_facts,
}
