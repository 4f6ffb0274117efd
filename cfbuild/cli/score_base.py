"""The command `score-base`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cfbuild.cli.shared import Build, OutputOptions, load_model, open_folder, shown_progress, tell, tell_json
from cfbuild.lm.selection import ModelOptions
from cfbuild.pipeline.score_base import BaseOptions, BaseScores, score_base

EXAMPLES = ("cfbuild score-base", "cfbuild score-base --models gpt2-xl,gpt-j-6b --device cuda")


def run(build: Build = Path("build"), *, options: BaseOptions, output: OutputOptions) -> None:
    """Score every prompt by unedited models; publish has the result as configurations of the dataset."""
    folder, found = open_folder(build), []
    for name in options.models:
        model, _, revision = name.partition("@")
        about = ModelOptions(model=model, revision=revision or None, device=options.device, dtype=options.dtype)
        lm = load_model(about, output.quiet)
        with shown_progress(output.quiet) as progress:
            found.append(score_base(folder, options, lm, progress))
        del lm  # the next model gets its memory
    if output.json_:
        tell_json([_as_dict(one) for one in found])
        return
    for line in _lines(found):
        tell(line)


def _as_dict(scores: BaseScores) -> dict[str, object]:
    from cfbuild.score.metrics import figures_as_dict, rounded

    about = {"model": scores.model, "revision": scores.revision, "file": scores.file, "prompts": scores.prompts}
    return {**about, "figures": figures_as_dict(rounded(scores.figures))}


def _lines(found: Sequence[BaseScores]) -> Iterator[str]:
    for scores in found:
        figures = ", ".join(f"{name} {figure.mean:.1f}" for name, figure in scores.figures.items())
        yield f"{scores.model} ({scores.revision}), before any edit: {figures}"
        yield f"  {scores.prompts:,} prompts: {scores.file}"
