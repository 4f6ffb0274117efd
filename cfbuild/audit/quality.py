"""Rules for the quality of a record, whoever made it. A row with such faults can be used, so validation accepts it.

A rule yields nothing if the row does not suffice to judge; without a build's facts it judges by the texts alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cfbuild.audit.evidence import AuditContext
from cfbuild.audit.reader import Prompt
from cfbuild.audit.row import ABOUT_OTHERS, PROMPT_GROUPS, RecordParts
from cfbuild.data import SLOT
from cfbuild.facts.relations import SYMMETRIC
from cfbuild.filter.naming import noise_in
from cfbuild.store.schema.faults import Fault, show
from cfbuild.text.codes import is_code
from cfbuild.text.names import find_id, find_name, gives_away

OBJECTS = ("target_true", "target_new")
STATING = frozenset(f"/meta/groups/{name}" for name in ("specificity_plus", "multiple_choice", "same_entity", "yes_no"))
"""The groups whose prompts name an answer on purpose, or whose answers are no names ("No" in "No Game No Life")."""


def prefix_fragment(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each paraphrase whose prefix is no whole sentence."""
    for place, prompt in enumerate(parts.group("paraphrase")):
        prefix, _ = parts.split(place)
        found = parts.wording.fragment(prefix) if prefix else None
        if found is not None:
            yield Fault(prompt.path, "prefix-fragment", f"{show(prefix)}, which {found}", "a whole sentence")


def prefix_mention(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each paraphrase whose prefix names the subject or a target."""
    names = [parts.subject, parts.target_true.label, parts.target_new.label]
    if context.rules is not None:
        ids = (parts.subject_id, parts.target_true.id, parts.target_new.id)
        names += [name for item in ids for name in context.rules.graph.names(item)]
    for place, prompt in enumerate(parts.group("paraphrase")):
        name = find_name(parts.split(place)[0], names)
        if name is not None:
            yield Fault(prompt.path, "prefix-mention", show(name), "a prefix that names no part of the fact")


def repeated_generation(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault if generation prompts repeat: texts from the same prompt are alike."""
    texts = [prompt.text for prompt in parts.group("generation")]
    if len(set(texts)) < len(texts):
        got = f"{len(set(texts))} distinct of {len(texts)}"
        yield Fault("/generation_prompts", "repeated-generation", got, "different prompts")


def repeated_entity(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt about an entity that has `max_per_entity` earlier prompts of the group."""
    for group in ABOUT_OTHERS:
        count: Counter[str] = Counter()
        for mention in context.about[group]:
            entity = mention.prompt.entity or mention.name
            if entity is None:
                continue
            count[entity] += 1
            if count[entity] > context.max_per_entity:
                got = f"{show(mention.name or entity)} for time {count[entity]}"
                expected = f"at most {context.max_per_entity} prompts an entity"
                yield Fault(mention.prompt.path, "repeated-entity", got, expected, guess=not mention.prompt.entity)


def label_noise(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each name with noise: markup, a control character, a suffix that only tells namesakes apart.

    With a build, names of the entities of prompts are judged by its facts too; subject and object by its fact rules.
    """
    noise = parts.wording.noise
    for path, label in (*_labels(parts), *_answers(parts)):
        found = noise(label)
        if found is not None:
            yield Fault(path, "label-noise", f"{show(label)} with {show(found)}", "a plain name")
    for prompt in (prompt for group in ABOUT_OTHERS for prompt in parts.group(group) if prompt.entity):
        found = noise_in(prompt.entity, context.rules) if context.rules else None
        if found is not None:
            yield Fault(prompt.path, "label-noise", f"{show(prompt.text)} with {show(found)}", "a plain name")


def qid_label(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each name that is blank or a language code, and for each text with an item id for a name."""
    for path, label in (*_labels(parts), *_answers(parts)):
        if is_code(label, parts.language) or not label.strip():
            yield Fault(path, "qid-label", show(label), "a name")
    for path, text in (*_labels(parts), *_answers(parts), *_prompts(parts)):
        found = find_id(text)
        if found is not None:
            yield Fault(path, "qid-label", show(text) if found == text else f"{found} in {show(text)}", "a name")


def one_in_other(target: str, rule: str, parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault of the `rule` if the names of the subject and a `target`, as "target_new", give each other away."""
    label = getattr(parts, target).label
    for outer, inner in ((parts.subject, label), (label, parts.subject)):
        if outer and inner and gives_away(outer, inner, (inner,), parts.wording) is not None:
            yield Fault(parts.target_path(target), rule, f"{show(inner)} in {show(outer)}", "names apart")


def object_in_neighbor(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt about another entity whose name gives the prompt's answer away."""
    wording = parts.wording
    for group, target in (("neighborhood", parts.target_true), ("attribute", parts.target_new)):
        for mention in context.about[group]:
            name = mention.name
            if name is None or not target.label:
                continue
            if gives_away(name, target.label, (target.label,), wording) is not None:
                got = f"{show(target.label)} in {show(name)}"
                yield Fault(mention.prompt.path, "object-in-neighbor", got, "names apart", guess=mention.is_read)


def article(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt that ends in an article which a target, or its own answer, cannot follow."""
    labels = [getattr(parts, name).label for name in OBJECTS]
    prompts = [Prompt(parts.rewrite_path, parts.template)]
    prompts += [prompt for group in ("paraphrase", *ABOUT_OTHERS) for prompt in parts.group(group)]
    article_clash = parts.wording.article_clash
    for prompt in (*prompts, *_answered(parts)):
        for label in prompt.answers or labels:
            clash = article_clash(prompt.text, label)
            if clash is not None:
                expected = "an article that fits" if prompt.answers else "an article that fits both targets, or none"
                yield Fault(prompt.path, "article", f"{show(clash)} before {show(label)}", expected)


def template_grammar(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt that is ungrammatical before the object; the text of names is not judged."""
    texts = [(parts.rewrite_path, parts.template, False)]
    for place, prompt in enumerate(parts.group("paraphrase")):
        if parts.subject and parts.subject in prompt.text:
            texts.append((prompt.path, parts.split(place)[1].replace(parts.subject, SLOT), False))
    for mention in (mention for group in ABOUT_OTHERS for mention in context.about[group]):
        prompt, name = mention.prompt, mention.name
        if name is not None and name in prompt.text:
            texts.append((prompt.path, prompt.text.replace(name, SLOT), mention.is_read))
    template_fault = parts.wording.template_fault
    for path, text, guess in texts:
        found = template_fault(text, SLOT)
        if found is not None:
            got = f"{show(found)} in {show(text)}"
            yield Fault(path, "template-grammar", got, "a sentence up to its object", guess)


def symmetric_relation(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for a relation that holds both ways, unless that is allowed."""
    if parts.relation in SYMMETRIC and not context.allow_symmetric:
        expected = "a relation that holds one way"
        yield Fault(f"{parts.base}/relation_id", "symmetric-relation", show(parts.relation), expected)


def answer_in_prompt(parts: RecordParts, context: AuditContext) -> Iterator[Fault]:
    """Yield a fault for each prompt that names one of its own answers."""
    for prompt in _answered(parts):
        for answer in prompt.answers:
            if find_name(prompt.text, (answer,)) is not None:
                got = f"{show(answer)} in {show(prompt.text)}"
                yield Fault(prompt.path, "answer-in-prompt", got, "a prompt without it")


def _labels(parts: RecordParts) -> Iterator[tuple[str, str]]:
    yield f"{parts.base}/subject", parts.subject
    for name in OBJECTS:
        label = getattr(parts, name).label
        # EasyEdit's rows may have no true object.
        if label or parts.is_counterfact:
            yield parts.target_path(name), label


def _answers(parts: RecordParts) -> Iterator[tuple[str, str]]:
    return ((prompt.answers_path, answer) for prompt in _answered(parts) for answer in prompt.answers)


def _prompts(parts: RecordParts) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of every prompt; the rewrite has a slot instead of the subject's name."""
    yield parts.rewrite_path, parts.template
    for prompts in (*map(parts.group, PROMPT_GROUPS), *parts.answered.values()):
        yield from ((prompt.path, prompt.text) for prompt in prompts)


def _answered(parts: RecordParts) -> Iterator[Prompt]:
    """Yield the prompts that have their own answers, without the groups in STATING."""
    for path, prompts in parts.answered.items():
        if path not in STATING:
            yield from (prompt for prompt in prompts if prompt.answers)
