"""A trained editor's network in files: its weights, and a description of everything that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cfbuild import __version__
from cfbuild.edit.artefacts import weights_identity
from cfbuild.edit.trained.ke import KeNetwork
from cfbuild.edit.trained.material import edited_weights
from cfbuild.edit.trained.mend import RANK, MendNetwork
from cfbuild.errors import ConfigError, ModelError
from cfbuild.lm.model import LanguageModel
from cfbuild.store.files import sha256_file
from cfbuild.store.jsonl import read_json, write_json

NETWORK, MADE_OF = "network.safetensors", "made_of.json"
"""The files of a network: its weights and its description."""
MEND, KE = "mend", "ke"
"""The kinds of networks."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A network ready to edit with; `digest` identifies its weights, `made_of` is its description."""

    network: MendNetwork | KeNetwork
    digest: str
    made_of: Mapping[str, Any]


def new_network(
    kind: str, lm: LanguageModel, seed: int, rank: int = RANK, tokens: set[int] | None = None
) -> MendNetwork | KeNetwork:
    """Return an untrained network of the kind `mend` or `ke` for a model, in float32 on its device.

    rank: of MEND's blocks. tokens: those of the training's edits, whose embeddings KE's network trains.
    """
    shapes = {weight: lm.shape(weight) for weight in edited_weights(lm)}
    with torch.random.fork_rng(devices=()):  # drawn on the CPU, so that every device gets the same weights
        torch.manual_seed(seed)
        if kind == MEND:
            network: MendNetwork | KeNetwork = MendNetwork(shapes, rank)
        else:
            embeddings = lm.model.get_input_embeddings().weight.detach().float().cpu()
            trained_tokens = torch.tensor(sorted(tokens or ()), dtype=torch.long)
            network = KeNetwork(shapes, lm.family.projection_is_transposed, embeddings, trained_tokens)
    return network.to(lm.device)


def write_network(
    folder: Path, lm: LanguageModel, network: MendNetwork | KeNetwork, made_of: Mapping[str, Any]
) -> None:
    """Write a network for a model into `folder`, with `made_of` and the model's identity as its description."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{NETWORK}.part"
    save_file({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}, part)
    part.replace(folder / NETWORK)
    description = {
        "cfbuild": __version__,
        "torch": torch.__version__,
        "network": MEND if isinstance(network, MendNetwork) else KE,
        "model": {**lm.identity, **weights_identity(lm)},
        "weights": [[weight.layer, weight.part] for weight in network.weights],
        "sha256": sha256_file(folder / NETWORK),
    }
    write_json(folder / MADE_OF, {**description, **made_of})


def network_digest(folder: Path, name: str) -> str:
    """Return the digest of the network in `folder`, short enough for a run's signature.

    Raises ConfigError, with the command that trains the editor `name`, if there is none.
    """
    if not (folder / NETWORK).is_file() or not (folder / MADE_OF).is_file():
        raise ConfigError(
            f"{folder} holds no trained network, and the editor {name} needs one; make it with `{command(name)}`, or "
            "give the folder of another with --set trained=FOLDER"
        )
    return sha256_file(folder / NETWORK)[:16]


def command(name: str) -> str:
    """Return the command that trains the editor `name`, such as "mend-cf"."""
    kind = name.removesuffix("-cf")
    return f"cfbuild train-editor {kind}" + ("" if name.endswith("-cf") else " --texts FILE")


def load_network(folder: Path, name: str, kind: str, lm: LanguageModel) -> TrainedNetwork:
    """Return the network in `folder`, of the kind `mend` or `ke`, for the editor `name`.

    Raises ConfigError if there is none of this kind for this model; ModelError if its files cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    digest = network_digest(folder, name)
    made_of = read_json(folder / MADE_OF)
    try:
        if made_of["network"] != kind:
            raise ConfigError(f"{folder}: is a network of {made_of['network']}; the editor {name} needs one of {kind}")
        revision = weights_identity(lm)["revision"]
        if made_of["model"]["revision"] != revision:
            raise ConfigError(
                f"{folder}: was trained for {made_of['model']['model']} ({made_of['model']['revision']}), and the "
                f"model is {lm.name} ({revision}); train another by `{command(name)} --model {lm.preset or lm.name}`"
            )
        state = load_file(folder / NETWORK, device="cpu")
        if sha256_file(folder / NETWORK) != made_of["sha256"]:
            raise ModelError(f"{folder / NETWORK}: is not the file that its {MADE_OF} describes; train it again")
        tokens = set(state["tokens"].tolist()) if "tokens" in state else None
        network = new_network(kind, lm, 0, made_of["settings"].get("rank") or RANK, tokens)
        weights = [[weight.layer, weight.part] for weight in network.weights]
        if made_of["weights"] != weights:
            raise ConfigError(f"{folder}: changes the weights {made_of['weights']}; expected {weights}: train it again")
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError, OSError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}: holds no network that can be read ({str(error).splitlines()[0]})") from error
    return TrainedNetwork(network.eval().requires_grad_(False), digest, made_of)
