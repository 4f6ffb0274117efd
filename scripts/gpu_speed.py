"""The cost of random models of true shapes on a device, ours and the plain way's: edits, prompts and texts a second.

`gpu_check` runs it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from types import SimpleNamespace
from typing import Any

import tiny
import torch

from benchmarks import plain, plain_texts
from benchmarks.measure import count_flops, peak_flops, peak_memory_bytes, timed
from benchmarks.parts.texts import bytes_a_token
from cfbuild.data import Request
from cfbuild.edit.editor import open_editor
from cfbuild.edit.rome import Rome
from cfbuild.edit.trained.artefact import TrainedNetwork, new_network
from cfbuild.errors import CfbuildError
from cfbuild.lm.delta import Delta
from cfbuild.lm.libraries import Libraries
from cfbuild.lm.likelihood import Question, score_before_and_after
from cfbuild.lm.model import LanguageModel
from cfbuild.lm.sample import generate

REQUESTS = [
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English"),
    Request("{} lies in", "Rome", "Germany"),
    Request("The capital city of {} is", "France", "Berlin"),
]
GPT2_VOCABULARY = 50257
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "tiny": ("llama", {}),
    "gpt2 (124M)": ("gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": GPT2_VOCABULARY}),
    "gpt_neox (160M)": (
        "gpt_neox",
        {
            **{"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
            "vocab_size": 50304,
        },
    ),
    "llama (135M)": (
        "llama",
        {
            **{"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
            **{"intermediate_size": 1536, "head_dim": 64, "vocab_size": 49152},
        },
    ),
    "gpt2-xl": ("gpt2", {"n_embd": 1600, "n_layer": 48, "n_head": 25, "vocab_size": GPT2_VOCABULARY}),
    "gpt-j-6b": ("gptj", {"n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64, "vocab_size": 50400}),
}
"""Models by family and configuration; the last two are the paper's, and the first is to try this script."""
POSITIONS = {"n_positions": 1024, "max_position_embeddings": 1024}
ONLY_ON_A_DEVICE = ("gpt2-xl", "gpt-j-6b")
OF_LESS = ("gpt-j-6b",)
"""Models that are given less to do: a plain edit takes them many seconds."""
ROOM = 1.6
"""Memory that a model's work takes, as a multiple of its weights, at the least."""
BASELINE_EDITS, BASELINE_TEXTS, TEXT_TOKENS = 2, 10, 100


@dataclass(frozen=True, slots=True)
class Amount:
    """The amount of work: requests edited, records scored, texts written, steps of an edit."""

    edits: int
    records: int
    texts: int
    steps: int = 20


FULL, LARGE, LITTLE = Amount(64, 128, 256), Amount(16, 32, 128), Amount(2, 2, 4, steps=3)


@dataclass(frozen=True)
class FewSupplies:
    """Supplies that take no time: two contexts, no covariance, networks that have learned nothing."""

    lm: LanguageModel

    def contexts(self, paper: str) -> tuple[str, ...]:
        return ("Rome lies in Italy. ", "She speaks English. ")

    def covariances(self, layers: Sequence[int]) -> dict[int, None]:
        return dict.fromkeys(layers)

    def trained(self, name: str, kind: str, folder: str | None) -> TrainedNetwork:
        return TrainedNetwork(new_network(kind, self.lm, 0, rank=4, tokens=set(range(20))), "untrained", {})


@dataclass
class Speed:
    """Return the costs of a model of a true shape on a device, ours and the plain way's."""

    lm: LanguageModel
    amount: Amount
    editor: Rome
    rows: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def of(name: str, device: torch.device, dtype: torch.dtype, amount: Amount) -> Speed:
        family, shape = SHAPES[name]
        with torch.device(device):
            lm = tiny.make(family, dtype=dtype, **POSITIONS, **shape)
        lm = replace(lm, name=name, model=lm.model.to(device))
        layer = min(17, len(lm.layers) // 3)
        options = {"layer": layer, "steps": amount.steps, "products": "float32", "stop_loss": 0.0}
        editor = open_editor("rome", lm, options, ManyContexts(lm)).editor
        assert isinstance(editor, Rome)
        return Speed(lm, amount, editor)

    def measure(self, peak: float, bandwidth: float) -> dict[str, float]:
        """Return all figures; peak: operations a second of the device's best product; bandwidth: bytes a second."""
        if self.lm.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        made = self._edits(peak)
        self._scores(made)
        self._texts(bandwidth)
        self.rows["peak memory, GB"] = peak_memory_bytes(self.lm.device) / 1e9
        return {name: round(value, 4) for name, value in self.rows.items()}

    def _edits(self, peak: float) -> list[Delta]:
        requests = many_requests(self.amount.edits)
        self.editor.edit(requests[:2])  # kernels are chosen and compiled
        ours = timed(lambda: self.editor.edit(requests), self.lm.device)
        records = [as_record(one) for one in requests[:BASELINE_EDITS]]

        def edit_plainly() -> None:
            for record in records:
                plain.edit(self.lm, record, self.editor.options, None)

        edit_plainly()
        theirs = timed(edit_plainly, self.lm.device)
        self._compare("s an edit", ours.seconds / len(requests), theirs.seconds / len(records), lower_is_better=True)
        edited = requests[: min(8, len(requests))]
        again = timed(lambda: self.editor.edit(edited), self.lm.device)
        self.lm.__dict__["libraries"], chosen = Libraries(), self.lm.libraries
        self.rows["s an edit of 8"] = again.seconds / len(edited)
        usual = timed(lambda: self.editor.edit(edited), self.lm.device)
        self.rows["s an edit of 8 by the usual library"] = usual.seconds / len(edited)
        flops = count_flops(lambda: self.editor.edit(edited))
        self.lm.__dict__["libraries"] = chosen
        self.rows["edits' share of the peak of products"] = flops / again.seconds / peak
        return [edit.delta for edit in ours.result if edit.delta is not None]

    def _scores(self, deltas: Sequence[Delta]) -> None:
        if not deltas:
            return
        records, targets = record_prompts(self.lm, self.amount.records), tuple(map(self.lm.continuation, TARGETS))
        questions = [Question(self.lm.encode(prompt), targets) for prompts in records for prompt in prompts]
        own = [deltas[place // len(RECORD) % len(deltas)] for place in range(len(questions))]
        score_before_and_after(self.lm, questions[: len(RECORD)], own[: len(RECORD)])
        ours = timed(lambda: score_before_and_after(self.lm, questions, own), self.lm.device)
        plain.score(self.lm, records[0], TARGETS)
        theirs = timed(lambda: [plain.score(self.lm, records[0], TARGETS) for _ in range(2)], self.lm.device)
        inner = sum(len(target) - 1 for target in targets)
        self.rows["tokens of a record's prompts"] = sum(len(one.prompt) + inner for one in questions) / len(records)
        self._compare("records scored before and after, a second", len(records) / ours.seconds, 1 / theirs.seconds)

    def _texts(self, bandwidth: float) -> None:
        prompts = [self.lm.encode(one.prompt.format(one.subject)) for one in many_requests(self.amount.texts)]
        keys = [str(place) for place in range(len(prompts))]
        generate(self.lm, prompts[:2], keys[:2], len(prompts[0]) + 3)
        total = TEXT_TOKENS if self.amount is not LITTLE else max(map(len, prompts)) + 4
        ours = timed(lambda: generate(self.lm, prompts, keys, total), self.lm.device)
        written = sum(total - len(prompt) for prompt in prompts)
        few = prompts[:BASELINE_TEXTS]
        plain_texts.texts(self.lm, few, max(map(len, few)) + 4, seed=0)
        theirs = timed(lambda: plain_texts.texts(self.lm, few, total, seed=0), self.lm.device)
        plain_written = len(few) * (total - max(map(len, few)))
        self._compare("tokens a second", written / ours.seconds, plain_written / theirs.seconds)
        weights = sum(one.numel() * one.element_size() for one in self.lm.model.parameters())
        seen = bytes_a_token(self.lm) * sum(sum(range(len(prompt) + 1, total)) for prompt in prompts)
        read = weights * (total - min(map(len, prompts))) + seen
        self.rows["texts' share of the bandwidth, weights, keys and values"] = read / ours.seconds / bandwidth

    def _compare(self, what: str, ours: float, theirs: float, lower_is_better: bool = False) -> None:
        self.rows |= {what: ours, f"{what}, plain": theirs}
        self.rows[f"{what}, times the plain way"] = theirs / ours if lower_is_better else ours / theirs


RECORD = (10, 20, 20, *[10] * 10)
"""Tokens of a record's prompts: the rewrite's, two paraphrases' and ten of its neighbourhood. GPT-2's tokenizer makes
as many, on average, of those of 300 records built from the Wikidata excerpt, and 1.1 tokens of an object."""
TARGETS = ("Germany", "a")
"""Objects of two tokens and of one."""


class ManyContexts(FewSupplies):
    """As many contexts as ROME's: ten of 5 words and ten of 10."""

    def contexts(self, paper: str) -> tuple[str, ...]:
        words = tiny.WORDS.split()
        return tuple(" ".join(words[place : place + length]) + ". " for length in (5, 10) for place in range(10))


def many_requests(count: int) -> list[Request]:
    """Return requests whose subjects all differ."""
    return [replace(REQUESTS[place % 3], subject=f"{REQUESTS[place % 3].subject} {place}") for place in range(count)]


def record_prompts(lm: LanguageModel, count: int) -> list[list[str]]:
    """Return the prompts of `count` records, all of them different, of RECORD's tokens each."""
    words = sorted({word for word in tiny.WORDS.split() if len(lm.continuation(word)) == 1})
    draw = Random(0)
    return [[" ".join(draw.choices(words, k=tokens)) for tokens in RECORD] for _ in range(count)]


def as_record(request: Request) -> Any:
    """Return what the baseline reads of a record."""
    return SimpleNamespace(
        prompt=SimpleNamespace(text=request.prompt),
        subject=SimpleNamespace(label=request.subject),
        target_new=SimpleNamespace(label=request.target_new),
    )


def bandwidth_of(device: torch.device) -> float:
    """Return the bytes a second that a copy of a large tensor reads and writes, the best of five."""
    count = (1 << 28) if device.type == "cuda" else (1 << 24)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * 4 * count / min(timed(lambda: target.copy_(source), device).seconds for _ in range(5))


def fits(name: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether the device has room for a model of a shape and its work."""
    if device.type != "cuda":
        return name not in ONLY_ON_A_DEVICE
    family, shape = SHAPES[name]
    with torch.device("meta"):
        weights = sum(one.numel() for one in tiny.make(family, dtype=dtype, **POSITIONS, **shape).model.parameters())
    return bool(ROOM * weights * dtype.itemsize < torch.cuda.mem_get_info()[0])


def speeds(
    device: torch.device, amount: Amount, names: Sequence[str], formats: Sequence[torch.dtype], until: float
) -> dict[str, Any]:
    """Return the figures of each shape and number format; what there is no time or room for is named."""
    found: dict[str, Any] = {}
    bandwidth = bandwidth_of(device)
    for name in names:
        for dtype in formats:
            key = f"{name}, {str(dtype).removeprefix('torch.')}"
            if time.perf_counter() > until or not fits(name, device, dtype):
                found[key] = "left out: " + ("no time" if time.perf_counter() > until else "no room")
            else:
                peak = peak_flops(device, dtype)
                try:
                    less = LARGE if amount is FULL and name in OF_LESS else amount
                    found[key] = Speed.of(name, device, dtype, less).measure(peak, bandwidth)
                    found[key] |= {"peak of products, TFLOP/s": peak / 1e12, "bandwidth, GB/s": bandwidth / 1e9}
                except (
                    RuntimeError,
                    CfbuildError,
                ) as error:  # one model's failure must not take the others' figures along
                    found[key] = f"failed: {type(error).__name__}: {error}"
            print(f"{key}: {json.dumps(found[key], indent=1)}", flush=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return found
