"""Check an accelerator against the CPU and against the plain way of working, on random models: no weights, no network.

1. Agreement: every family and editor on tiny models, on the device and on the CPU; exits with 1 if more than rounding
   differs. Likelihoods also against float64.
2. Bytes: two runs on the device give the same edits, likelihoods and texts, and so does a run whose batches did not fit
   the memory and were halved.
3. Speed: random models of true shapes. Edits, scored prompts and texts a second beside the plain baseline on the same
   device, peak memory, and shares of the device's own measured peak of products and bandwidth.

It needs torch, transformers, safetensors, tokenizers and this repository. What else is missing is named, and what needs
it left out. Run: python scripts/gpu_check.py --out gpu.json (under 8 minutes on one GPU)
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import tiny  # noqa: E402

from benchmarks import plain, plain_texts  # noqa: E402
from benchmarks.measure import count_flops, peak_flops, peak_memory_bytes, timed  # noqa: E402
from cfbuild.data import Request  # noqa: E402
from cfbuild.edit import EDITORS  # noqa: E402
from cfbuild.edit.covariance import second_moments  # noqa: E402
from cfbuild.edit.editor import editor_spec, open_editor  # noqa: E402
from cfbuild.edit.rome import Rome  # noqa: E402
from cfbuild.edit.trained.artefact import TrainedNetwork, new_network  # noqa: E402
from cfbuild.errors import CfbuildError, ConfigError  # noqa: E402
from cfbuild.lm import batching, sample  # noqa: E402
from cfbuild.lm.delta import Delta, Dense, LowRank, applied  # noqa: E402
from cfbuild.lm.likelihood import Question, score, score_before_and_after, score_edited  # noqa: E402
from cfbuild.lm.libraries import Libraries  # noqa: E402
from cfbuild.lm.load import choose_device  # noqa: E402
from cfbuild.lm.model import LanguageModel, Weight  # noqa: E402
from cfbuild.lm.room import Room  # noqa: E402
from cfbuild.lm.sample import generate  # noqa: E402
from cfbuild.lm.steps import GrowingStep  # noqa: E402

PROMPTS = (
    "Berlin lies in",
    "Rome lies in",
    "She speaks",
    "The mother tongue of Danielle Darrieux is",
    "In",
)
REQUESTS = [
    Request("The mother tongue of {} is", "Danielle Darrieux", "New Zealand English"),
    Request("{} lies in", "Rome", "Germany"),
    Request("The capital city of {} is", "France", "Berlin"),
]
LIMIT = 2e-3
"""Relative difference beyond rounding: sums in another order differ by 1e-5, optimised values by ten times that."""
NUMBERS_LIMIT = 1e-4
"""Relative difference of likelihoods in float32 from those in float64."""
ALSO_USED = ("numpy", "requests", "jsonschema", "typer", "rich", "datasets", "spacy", "sklearn")
"""Packages of the project that this script can do without."""
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
    """The amount of work: requests edited, prompts scored, texts written, steps of an edit."""

    edits: int
    prompts: int
    texts: int
    steps: int = 20


FULL, LARGE, LITTLE = Amount(64, 1024, 256), Amount(16, 256, 128), Amount(2, 8, 4, steps=3)


@dataclass(frozen=True)
class FewSupplies:
    """Supplies that take no time: two contexts, no covariance, networks that have learned nothing."""

    lm: LanguageModel

    def contexts(self, of: str) -> tuple[str, ...]:
        return ("Rome lies in Italy. ", "She speaks English. ")

    def covariances(self, layers: Sequence[int]) -> dict[int, None]:
        return dict.fromkeys(layers)

    def trained(self, name: str, kind: str, folder: str | None) -> TrainedNetwork:
        return TrainedNetwork(new_network(kind, self.lm, 0, rank=4, tokens=set(range(20))), "untrained", {})


def moved(lm: LanguageModel, device: torch.device) -> LanguageModel:
    """Return a copy of a model on a device."""
    return replace(lm, model=copy.deepcopy(lm.model).to(device))


def questions(lm: LanguageModel) -> list[Question]:
    targets = (lm.continuation("Germany"), lm.continuation("New Zealand English"))
    return [Question(lm.encode(prompt), targets) for prompt in PROMPTS]


def mixed_deltas(lm: LanguageModel) -> list[Delta]:
    """Return a delta a prompt: of two layers and ranks, dense, and of a rank too large to be stacked."""
    draw = torch.Generator().manual_seed(0)

    def factors(weight: Weight, rank: int) -> LowRank:
        return LowRank(*(torch.randn(rank, width, generator=draw) * 0.1 for width in reversed(lm.shape(weight))))

    first, second = Weight(1), Weight(2)
    two = Delta({first: factors(first, 1), second: factors(second, 3)})
    dense = Delta({second: Dense(torch.randn(*lm.shape(second), generator=draw) * 0.02)})
    return [two, dense, Delta({first: factors(first, 20)}), two, dense]


def likelihoods(lm: LanguageModel) -> torch.Tensor:
    """Return every NLL before, after and under mixed deltas."""
    deltas, asked = mixed_deltas(lm), questions(lm)
    pairs = score_before_and_after(lm, asked, deltas)
    rows = [*score(lm, asked), *score_edited(lm, asked, deltas), *(row for pair in pairs for row in pair)]
    return torch.tensor([answer.nll_nats for row in rows for answer in row])


def edits(lm: LanguageModel, editor: str) -> torch.Tensor:
    """Return every change that an editor makes for the requests, flat; one zero where it changes no weight."""
    has = editor_spec(editor).options.__dataclass_fields__
    asked = {name: value for name, value in {"layer": 1, "steps": 6, "products": "float32"}.items() if name in has}
    try:
        made = open_editor(editor, lm, asked, FewSupplies(lm)).edit(REQUESTS)
    except ConfigError:  # the editor does not fit the model
        return torch.zeros(1)
    changes = [change.matrix().cpu().flatten() for edit in made if edit.delta for change in edit.delta.changes.values()]
    return torch.cat(changes) if changes else torch.zeros(1)


def texts(lm: LanguageModel) -> list[str]:
    """Return texts written under mixed deltas."""
    asked = questions(lm)
    return generate(
        lm, [one.prompt for one in asked], [str(place) for place in range(len(asked))], 24, mixed_deltas(lm)
    )


def is_undone(lm: LanguageModel) -> bool:
    """Return whether a delta that was applied leaves the very bits."""
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    with applied(lm, mixed_deltas(lm)[0]):
        pass
    return all(torch.equal(before[name], value) for name, value in lm.model.state_dict().items())


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the relative difference of two tensors."""
    return float((one - other).norm() / one.norm().clamp_min(1e-9))


def differences(family: str, device: torch.device) -> Iterator[tuple[str, float]]:
    """Yield what is compared for a family and how far the device is from the CPU."""
    lm = tiny.make(family)
    there = moved(lm, device)
    yield "likelihoods", distance(likelihoods(lm), likelihoods(there))
    yield "covariance", distance(*(second_moments(one, [1], PROMPTS, 60)[0][1] for one in (lm, there)))
    for editor in EDITORS:
        yield editor, distance(edits(lm, editor), edits(there, editor))
    written, again = texts(lm), texts(there)
    yield "texts", sum(one != other for one, other in zip(written, again, strict=True)) * LIMIT / len(written)
    yield "undone", 0.0 if is_undone(there) else 1.0


def sharpness(family: str, device: torch.device) -> dict[str, float]:
    """Return how far likelihoods in float32 on the device and on the CPU are from transformers' own in float64."""
    lm = tiny.make(family)
    exact = replace(lm, model=copy.deepcopy(lm.model).double())
    prompts, targets = list(PROMPTS), ("Germany", "New Zealand English")
    truth = torch.tensor(plain_nlls(exact, prompts, targets))
    found = {}
    for name, one in (("cpu", lm), ("device", moved(lm, device))):
        asked = [Question(one.encode(text), tuple(map(one.continuation, targets))) for text in prompts]
        answers = torch.tensor([[answer.nll_nats for answer in row] for row in score(one, asked)])
        found[f"float32 on the {name} from float64"] = distance(truth, answers)
    return found


@torch.no_grad()
def plain_nlls(lm: LanguageModel, prompts: Sequence[str], targets: Sequence[str]) -> list[list[float]]:
    """Return mean NLLs in the model's own number format, a text at a time."""
    rows = []
    for text in prompts:
        ids, row = lm.encode(text), []
        for target in map(lm.continuation, targets):
            logits = lm.model(torch.tensor([ids + target], device=lm.device)).logits[0, len(ids) - 1 : -1]
            row.append(float(-logits.log_softmax(-1).gather(1, torch.tensor(target)[:, None]).mean()))
        rows.append(row)
    return rows


def everything(lm: LanguageModel) -> list[bytes | str]:
    """Return the bytes of likelihoods, of ROME's and MEMIT's edits, and texts."""
    numbers = [likelihoods(lm), edits(lm, "rome"), edits(lm, "memit")]
    return [*(one.numpy().tobytes() for one in numbers), *texts(lm)]


def grown_texts(lm: LanguageModel) -> list[str]:
    """Return what `texts` does, by steps that are not recorded."""
    before, sample.step_for = sample.step_for, GrowingStep
    try:
        return texts(lm)
    finally:
        sample.step_for = before


def same_bytes(family: str, device: torch.device) -> dict[str, bool]:
    """Return whether a second run has the bytes of the first, and one with halved batches its likelihoods, nearly."""
    lm = moved(tiny.make(family), device)
    first = everything(lm)
    found = {"a second run": everything(lm) == first, "texts by recorded steps": texts(lm) == grown_texts(lm)}
    whole, halved = likelihoods(lm), []

    def fails_first(work: Callable[..., Any], items: Sequence[Any], room: Room | None = None) -> Any:
        """Run out of memory over more than two items, as a device does, then go on as the package does."""

        def limited(part: Sequence[Any]) -> Any:
            if len(part) > 2:
                halved.append(len(part))
                raise torch.OutOfMemoryError("CUDA out of memory (forced)")
            return work(part)

        return halving(limited, items, room)

    halving = batching.halving
    batching.halving = fails_first
    try:
        found["halved batches"] = distance(whole, likelihoods(lm)) < LIMIT and bool(halved) and lm.room.halvings > 0
    finally:
        batching.halving = halving
    return found


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
        asked = {"layer": layer, "steps": amount.steps, "products": "float32", "stop_loss": 0.0}
        editor = open_editor("rome", lm, asked, ManyContexts(lm)).editor
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
        self._beside("s an edit", ours.seconds / len(requests), theirs.seconds / len(records), lower_is_better=True)
        some = requests[: min(8, len(requests))]
        again = timed(lambda: self.editor.edit(some), self.lm.device)
        self.lm.__dict__["libraries"], chosen = Libraries(), self.lm.libraries
        self.rows["s an edit of 8"] = again.seconds / len(some)
        usual = timed(lambda: self.editor.edit(some), self.lm.device)
        self.rows["s an edit of 8 by the usual library"] = usual.seconds / len(some)
        flops = count_flops(lambda: self.editor.edit(some))
        self.lm.__dict__["libraries"] = chosen
        self.rows["edits' share of the peak of products"] = flops / again.seconds / peak
        return [edit.delta for edit in ours.result if edit.delta is not None]

    def _scores(self, deltas: Sequence[Delta]) -> None:
        if not deltas:
            return
        asked = [
            Question(self.lm.encode(one.prompt.format(one.subject)), tuple(map(self.lm.continuation, TARGETS)))
            for one in many_requests(self.amount.prompts)
        ]
        own = [deltas[place % len(deltas)] for place in range(len(asked))]
        ours = timed(lambda: score_before_and_after(self.lm, asked, own), self.lm.device)
        texts = [one.prompt.format(one.subject) for one in many_requests(13)]  # a record's
        plain.score(self.lm, texts, TARGETS)
        theirs = timed(lambda: [plain.score(self.lm, texts, TARGETS) for _ in range(2)], self.lm.device)
        self._beside("prompts scored before and after, a second", len(asked) / ours.seconds, 13 / theirs.seconds)

    def _texts(self, bandwidth: float) -> None:
        prompts = [self.lm.encode(one.prompt.format(one.subject)) for one in many_requests(self.amount.texts)]
        keys = [str(place) for place in range(len(prompts))]
        generate(self.lm, prompts[:2], keys[:2], len(prompts[0]) + 3)
        total = TEXT_TOKENS if self.amount is not LITTLE else max(map(len, prompts)) + 4
        ours = timed(lambda: generate(self.lm, prompts, keys, total), self.lm.device)
        written = sum(total - len(prompt) for prompt in prompts)
        some = prompts[:BASELINE_TEXTS]
        plain_texts.texts(self.lm, some, max(map(len, some)) + 4, seed=0)
        theirs = timed(lambda: plain_texts.texts(self.lm, some, total, seed=0), self.lm.device)
        plain_written = len(some) * (total - max(map(len, some)))
        self._beside("tokens a second", written / ours.seconds, plain_written / theirs.seconds)
        weights = sum(one.numel() * one.element_size() for one in self.lm.model.parameters())
        steps = total - min(map(len, prompts))
        self.rows["texts' share of the bandwidth, weights alone"] = weights * steps / ours.seconds / bandwidth

    def _beside(self, what: str, ours: float, theirs: float, lower_is_better: bool = False) -> None:
        self.rows |= {what: ours, f"{what}, plain": theirs}
        self.rows[f"{what}, times the plain way"] = theirs / ours if lower_is_better else ours / theirs


TARGETS = ("Germany", "New Zealand English")


class ManyContexts(FewSupplies):
    """As many contexts as ROME's: ten of 5 words and ten of 10."""

    def contexts(self, of: str) -> tuple[str, ...]:
        words = tiny.WORDS.split()
        return tuple(" ".join(words[place : place + length]) + ". " for length in (5, 10) for place in range(10))


def many_requests(count: int) -> list[Request]:
    """Return requests whose subjects all differ."""
    return [replace(REQUESTS[place % 3], subject=f"{REQUESTS[place % 3].subject} {place}") for place in range(count)]


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


def agreement(families: Sequence[str], device: torch.device) -> tuple[dict[str, dict[str, float]], bool]:
    """Return the differences of each family from the CPU, printed, and whether all are rounding."""
    found, equal = {}, True
    for family in families:
        far = dict(differences(family, device))
        sharp = sharpness(family, device)
        equal &= max(far.values()) < LIMIT and max(sharp.values()) < NUMBERS_LIMIT
        found[family] = far | sharp
        most = max(far, key=far.__getitem__)
        print(f"{family}: largest {far[most]:.1e} ({most}); from float64 {max(sharp.values()):.1e}", flush=True)
    return found, equal


def named(device: torch.device) -> str:
    """Return the device in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def parsed() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cuda, mps, ...; cpu compares the CPU with itself")
    parser.add_argument(
        "--families", default=",".join(tiny.CONFIGS), help="compared with the CPU, with commas between; none: ''"
    )
    parser.add_argument(
        "--shapes",
        default=";".join(name for name in SHAPES if name != "tiny"),
        help="measured, with semicolons between; none: ''",
    )
    parser.add_argument("--formats", help="number formats measured, with commas between; float32,bfloat16 on a GPU")
    parser.add_argument("--little", action="store_true", help="a handful of edits, prompts and texts, to try it out")
    parser.add_argument("--minutes", type=float, default=7.0, help="no new model is measured after so many")
    parser.add_argument("--out", type=Path, help="a file for all figures as JSON")
    return parser.parse_args()


def main() -> int:
    """Compare and time; return the exit code."""
    given, started = parsed(), time.perf_counter()
    device = choose_device(given.device)
    missing = [name for name in ALSO_USED if importlib.util.find_spec(name) is None]
    result: dict[str, Any] = {"torch": torch.__version__, "device": named(device), "missing packages": missing}
    print(json.dumps(result), flush=True)
    families = [name for name in given.families.split(",") if name]
    result["agreement"], equal = agreement(families, device)
    result["bytes"] = {family: same_bytes(family, device) for family in families}
    unequal = [family for family, found in result["bytes"].items() if not all(found.values())]
    print(f"same bytes twice, and halved: {'all families' if not unequal else f'not {unequal}'}", flush=True)
    names = [name for name in given.shapes.split(";") if name]
    amount = LITTLE if given.little or device.type == "cpu" else FULL
    formats = given.formats or ("float32" if device.type == "cpu" else "float32,bfloat16")
    numbers = [getattr(torch, name) for name in formats.split(",")]
    result["speed"] = speeds(device, amount, names, numbers, started + 60 * given.minutes)
    result["seconds"] = round(time.perf_counter() - started, 1)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(not equal or bool(unequal))


if __name__ == "__main__":
    sys.exit(main())
