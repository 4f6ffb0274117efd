"""Compare an accelerator with the CPU on small random models: likelihoods, edits, texts and covariances.

Prints a line a family and what differs most; exits with 1 if a difference is more than rounding. Then times edits and
scoring on a random model of GPT-2 XL's shape, if the device has the memory. Run: python scripts/check_device.py
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import tiny  # noqa: E402

from cfbuild.data import Request  # noqa: E402
from cfbuild.edit import EDITORS  # noqa: E402
from cfbuild.edit.covariance import second_moments  # noqa: E402
from cfbuild.edit.editor import editor_spec, open_editor  # noqa: E402
from cfbuild.lm.delta import Delta, Dense, LowRank, applied  # noqa: E402
from cfbuild.lm.likelihood import Question, score, score_before_and_after, score_edited  # noqa: E402
from cfbuild.lm.load import choose_device  # noqa: E402
from cfbuild.lm.memory import wait_for  # noqa: E402
from cfbuild.lm.model import LanguageModel, Weight  # noqa: E402
from cfbuild.lm.sample import generate  # noqa: E402

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
LARGE = {"n_embd": 1600, "n_layer": 48, "n_head": 25, "n_positions": 1024, "max_position_embeddings": 1024}
LARGE_BYTES = 12 << 30
"""Memory that a random model of GPT-2 XL's shape takes in float32, with what edits add."""


class FewSupplies:
    """Supplies that take no time: two contexts, no covariance."""

    def contexts(self, of: str) -> tuple[str, ...]:
        return ("Rome lies in Italy. ", "She speaks English. ")

    def covariances(self, layers: Sequence[int]) -> dict[int, None]:
        return dict.fromkeys(layers)


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
    kind = editor_spec(editor).options
    asked = {"layer": 1, "steps": 6} if hasattr(kind, "steps") or "layer" in kind.__dataclass_fields__ else {}
    if "products" in kind.__dataclass_fields__:
        asked["products"] = "float32"
    made = open_editor(editor, lm, asked, FewSupplies()).edit(REQUESTS)
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


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Return how long `work` takes, after one run to warm up."""
    work()
    wait_for(device)
    start = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - start


def time_large(device: torch.device, dtype: torch.dtype) -> None:
    """Print how long edits and scoring take on a random model of GPT-2 XL's shape."""
    with torch.device(device):
        lm = tiny.make("gpt2", **LARGE)
    lm = replace(lm, model=lm.model.to(device=device, dtype=dtype))
    many = [replace(REQUESTS[place % 3], subject=f"{REQUESTS[place % 3].subject} {place}") for place in range(32)]
    editor = open_editor("rome", lm, {"layer": 17}, FewSupplies())
    asked = questions(lm) * 40
    made = editor.edit(many)
    deltas = [made[place % len(made)].delta for place in range(len(asked))]
    known = [delta for delta in deltas if delta is not None]
    print(f"gpt2-xl shape, {str(dtype).removeprefix('torch.')}:")
    print(f"  ROME: {seconds(lambda: editor.edit(many), device) / len(many):.3f} s an edit of {len(many)}")
    took = seconds(lambda: score_before_and_after(lm, asked[: len(known)], known), device)
    print(f"  scoring before and after: {1000 * took / max(1, len(known)):.2f} ms a prompt of {len(known)}")
    written = [one.prompt for one in asked]
    took = seconds(lambda: generate(lm, written, [str(place) for place in range(len(written))], 100), device)
    print(f"  texts: {len(written) * 95 / took:.0f} tokens/s, {len(written)} texts of 100 tokens")


def main() -> int:
    """Compare and time; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cuda, mps, ...; cpu compares the CPU with itself")
    parser.add_argument("--families", default=",".join(tiny.CONFIGS), help="comma-separated")
    device = choose_device(parser.parse_args().device)
    print(
        f"torch {torch.__version__}, {device}" + (f", {torch.cuda.get_device_name()}" if device.type == "cuda" else "")
    )
    worst = 0.0
    for family in parser.parse_args().families.split(","):
        found = dict(differences(family, device))
        worst = max(worst, *found.values())
        far = ", ".join(f"{what} {value:.1e}" for what, value in found.items() if value > LIMIT / 10)
        most = max(found, key=found.__getitem__)
        print(f"{family}: largest {found[most]:.1e} ({most}){'; ' if far else ''}{far}")
    if device.type == "cuda" and torch.cuda.mem_get_info()[0] > LARGE_BYTES:
        for dtype in (torch.float32, torch.bfloat16):
            time_large(device, dtype)
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
