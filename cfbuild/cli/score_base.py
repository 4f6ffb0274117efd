"""The command `score-base`."""

from __future__ import annotations

from pathlib import Path

from cfbuild.cli.shared import Build, OutputOptions, print_json, print_text
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.score_base import BaseOptions, BaseScores, score_base
from cfbuild.store.folder import BuildFolder

EXAMPLES = ("cfbuild score-base", "cfbuild score-base --models gpt2-xl,gpt-j-6b --device cuda")


def run(build: Build = Path("build"), *, options: BaseOptions, output: OutputOptions) -> None:
    """Score every prompt by unedited models; publish adds these scores to the dataset.

    The models are loaded one after another. A finished file of scores is not made again.
    """
    folder, scored = BuildFolder(build), []
    for name in options.models:
        model, _, revision = name.partition("@")
        chosen = ModelOptions(model=model, revision=revision or None, device=options.device, dtype=options.dtype)
        lm = output.load_model(chosen)
        with output.progress() as progress:
            scored.append(score_base(folder, options, lm, progress))
        del lm  # the next model gets its memory
    if output.json_:
        print_json(list(map(_as_dict, scored)))
        return
    for scores in scored:
        figures = ", ".join(f"{name} {figure.mean:.1f}" for name, figure in scores.figures.items())
        print_text(f"{scores.model} ({scores.revision}), before any edit: {figures}")
        print_text(f"  {scores.prompts:,} prompts: {scores.file}")


def _as_dict(scores: BaseScores) -> dict[str, object]:
    from cfbuild.score.metrics import figures_as_dict, rounded

    return {
        "model": scores.model,
        "revision": scores.revision,
        "file": scores.file,
        "prompts": scores.prompts,
        "figures": figures_as_dict(rounded(scores.figures)),
    }
