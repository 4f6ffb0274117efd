"""Check an accelerator against the CPU and against the plain way of working, on random models: no weights, no network.

1. Agreement: every family and editor on tiny models, on the device and on the CPU; exits with 1 if more than rounding
   differs. Likelihoods also against float64.
2. Bytes: two runs on the device give the same edits, likelihoods and texts, and so does a run whose batches did not fit
   the memory and were halved.
3. Speed: random models of true shapes. Edits, scored records and texts a second beside the plain baseline on the same
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts"), str(ROOT / "tests")]

import gpu_speed  # noqa: E402
import tiny  # noqa: E402
from gpu_speed import REQUESTS, FewSupplies  # noqa: E402

from cfbuild.edit import EDITORS  # noqa: E402
from cfbuild.edit.covariance import second_moments  # noqa: E402
from cfbuild.edit.editor import editor_spec, open_editor  # noqa: E402
from cfbuild.errors import ConfigError  # noqa: E402
from cfbuild.lm import batching, sample  # noqa: E402
from cfbuild.lm.delta import Delta, Dense, LowRank, applied  # noqa: E402
from cfbuild.lm.libraries import Libraries  # noqa: E402
from cfbuild.lm.likelihood import Question, score, score_before_and_after, score_edited  # noqa: E402
from cfbuild.lm.linear import LinearMap  # noqa: E402
from cfbuild.lm.load import choose_device  # noqa: E402
from cfbuild.lm.model import LanguageModel, Weight  # noqa: E402
from cfbuild.lm.room import Room  # noqa: E402
from cfbuild.lm.sample import generate  # noqa: E402
from cfbuild.lm.steps import GrowingStep  # noqa: E402
from cfbuild.lm.tensor_cores import has_tensor_cores  # noqa: E402

PROMPTS = (
    "Berlin lies in",
    "Rome lies in",
    "She speaks",
    "The mother tongue of Danielle Darrieux is",
    "In",
)
LIMIT = 2e-3
"""Relative difference beyond rounding: sums in another order differ by 1e-5, optimised values by ten times that."""
NUMBERS_LIMIT = 1e-4
"""Relative difference of likelihoods in float32 from those in float64."""
PRODUCTS_LIMIT = 2e-5
"""Relative difference of products from those in float64: float32's own is 1e-6, that of TF32 3e-4."""
ALSO_USED = ("numpy", "requests", "jsonschema", "typer", "rich", "datasets", "spacy", "sklearn")
"""Packages of the project that this script can do without."""


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
    deltas, scored = mixed_deltas(lm), questions(lm)
    pairs = score_before_and_after(lm, scored, deltas)
    rows = [*score(lm, scored), *score_edited(lm, scored, deltas), *(row for pair in pairs for row in pair)]
    return torch.tensor([answer.nll_nats for row in rows for answer in row])


def edits(lm: LanguageModel, editor: str) -> torch.Tensor:
    """Return every change that an editor makes for the requests, flat; one zero where it changes no weight."""
    has = editor_spec(editor).options.__dataclass_fields__
    options = {name: value for name, value in {"layer": 1, "steps": 6, "products": "float32"}.items() if name in has}
    try:
        made = open_editor(editor, lm, options, FewSupplies(lm)).edit(REQUESTS)
    except ConfigError:  # the editor does not fit the model
        return torch.zeros(1)
    changes = [change.matrix().cpu().flatten() for edit in made if edit.delta for change in edit.delta.changes.values()]
    return torch.cat(changes) if changes else torch.zeros(1)


def texts(lm: LanguageModel) -> list[str]:
    """Return texts written under mixed deltas."""
    scored = questions(lm)
    return generate(
        lm, [one.prompt for one in scored], [str(place) for place in range(len(scored))], 24, mixed_deltas(lm)
    )


def is_undone(lm: LanguageModel) -> bool:
    """Return whether a delta that was applied leaves the very bits."""
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    with applied(lm, mixed_deltas(lm)[0]):
        pass
    return all(torch.equal(before[name], value) for name, value in lm.model.state_dict().items())


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the relative difference of two tensors."""
    return float((first - second).norm() / first.norm().clamp_min(1e-9))


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
    for name, model in (("cpu", lm), ("device", moved(lm, device))):
        prompted = [Question(model.encode(text), tuple(map(model.continuation, targets))) for text in prompts]
        answers = torch.tensor([[answer.nll_nats for answer in row] for row in score(model, prompted)])
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


def products_from_float64(device: torch.device) -> dict[str, float]:
    """Return how far products of linear maps are from float64's, of numbers of one size and of many.

    They are large enough for three parts of bfloat16, on a GPU that multiplies these.
    """
    draw, found = torch.Generator().manual_seed(0), {}
    weight, bias = torch.randn(1603, 1000, generator=draw) * 0.02, torch.randn(1603, generator=draw)
    libraries = Libraries(tensor_cores=has_tensor_cores(device), parts_bytes=1)
    linear = LinearMap(weight.to(device), bias.to(device), libraries)
    inputs, gradient = torch.randn(600, 1000, generator=draw), torch.randn(600, 1603, generator=draw)
    for name, factor in (("of one size", 1), ("of many sizes", 300)):
        inputs[:, 3] *= factor
        gradient[:, 3] *= factor
        exact = (inputs.double() @ weight.double().T + bias, gradient.double() @ weight.double())
        made = (linear(inputs.to(device)), linear.back(gradient.to(device)))
        for way, right, ours in zip(("products", "gradients"), exact, made, strict=True):
            found[f"{way} {name}"] = distance(right, ours.cpu().double())
    return found


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
        default=";".join(name for name in gpu_speed.SHAPES if name != "tiny"),
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
    result["products from float64"] = far = products_from_float64(device)
    print(f"products: {max(far.values()):.1e} from float64", flush=True)
    result["agreement"], equal = agreement(families, device)
    equal &= max(far.values()) < PRODUCTS_LIMIT
    result["bytes"] = {family: same_bytes(family, device) for family in families}
    unequal = [family for family, found in result["bytes"].items() if not all(found.values())]
    print(f"same bytes twice, and halved: {'all families' if not unequal else f'not {unequal}'}", flush=True)
    names = [name for name in given.shapes.split(";") if name]
    amount = gpu_speed.LITTLE if given.little or device.type == "cpu" else gpu_speed.FULL
    formats = given.formats or ("float32" if device.type == "cpu" else "float32,bfloat16")
    numbers = [getattr(torch, name) for name in formats.split(",")]
    result["speed"] = gpu_speed.speeds(device, amount, names, numbers, started + 60 * given.minutes)
    result["seconds"] = round(time.perf_counter() - started, 1)
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(not equal or bool(unequal))


if __name__ == "__main__":
    sys.exit(main())
