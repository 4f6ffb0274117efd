"""`python -m benchmarks`: the package against the plain baseline, in one run, on one model, records and machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.draw import draw_curve
from benchmarks.measure import machine
from benchmarks.memory import memory, probe
from benchmarks.parts import NARROW, PARTS
from benchmarks.parts.editing import curve, share_of_peak
from benchmarks.shared import Row, SharedMeasurements, as_json
from benchmarks.world import make
from cfbuild.cli.shared import OutputOptions
from cfbuild.lm.products import narrow_is_fast
from cfbuild.option import split
from cfbuild.store.jsonl import write_json

COUNTS = (1, 3, 10, 30, 100, 300, 1000)
WHOLE_RUNS = ("peak", "memory", "curve")
"""Measurements beside the table's rows."""
RESULTS = Path(__file__).parent / "results"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog="Example: `python -m benchmarks --parts scoring,ranking --few 3 --many 20`")
def compare(
    parts: Annotated[str, typer.Option(help=f"Some of: {', '.join((*PARTS, *WHOLE_RUNS))}.")] = "",
    few: Annotated[int, typer.Option(help="Records the baseline is timed on.")] = 4,
    many: Annotated[int, typer.Option(help="Records the package is timed on.")] = 100,
    model: Annotated[str, typer.Option(help="A preset, folder or Hub id.")] = "smollm2-135m",
    device: Annotated[str, typer.Option(help="auto, cpu, or an accelerator.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the records.")] = 0,
    curve_to: Annotated[int, typer.Option(min=1, help="Most records a call of the curve.")] = 30,
    curve_steps: Annotated[int, typer.Option(min=2, help="Steps of its edits; fewer afford more records.")] = 5,
    out: Annotated[Path, typer.Option(help="Folder for bench.json, curve.svg and what is built.")] = RESULTS,
    memory_probe: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Compare outputs, then times; print ratios; write JSON and the curve of cost over records."""
    chosen = split(parts) or (*PARTS, *WHOLE_RUNS)
    if unknown := [name for name in chosen if name not in (*PARTS, *WHOLE_RUNS)]:
        raise typer.BadParameter(f"no such part: {', '.join(unknown)}; there are {', '.join((*PARTS, *WHOLE_RUNS))}")
    if "curve" in chosen and find_spec("matplotlib") is None:
        raise typer.BadParameter("matplotlib draws the curve: pip install -e '.[bench]', or choose --parts without it")
    with OutputOptions().progress() as progress:
        world = make(out, model, device, many, seed, progress)
    if memory_probe:
        typer.echo(json.dumps({"bytes": probe(world, memory_probe, few)}))
        return
    console = Console(stderr=True)
    runs = SharedMeasurements(world, few, len(world.records), lambda text: console.print(f"[dim]{text}[/dim]"))
    result: dict[str, Any] = {"model": world.lm.name, "revision": world.lm.revision, **machine(world.lm.device)}
    rows: list[Row] = []
    left_out = () if narrow_is_fast(world.lm.device) else NARROW
    for name in (name for name in left_out if name in chosen):
        console.print(f"{name} is left out: {world.lm.device} has no instructions for bfloat16")
    for name in (name for name in PARTS if name in chosen and name not in left_out):
        rows.append(PARTS[name](runs))
        _write(result | {"rows": [as_json(row) for row in rows]}, out)
    result["rows"] = [as_json(row) for row in rows]
    if "peak" in chosen:
        result["peak"] = share_of_peak(runs)
        _write(result, out)
    if "memory" in chosen:
        given = {"many": many, "model": model, "device": device, "seed": seed, "out": out}
        result["memory"] = memory(world, given)
        _write(result, out)
    if "curve" in chosen:
        result["curve"] = curve(runs, [count for count in COUNTS if count <= curve_to], curve_steps)
        _write(result, out)
        draw_curve(result["curve"], out / "curve.svg")
    _print(rows, result)


def _write(result: Mapping[str, Any], out: Path) -> None:
    """After every part, so that half an hour's measurements outlive what breaks the next one."""
    write_json(out / "bench.json", result)


def _print(rows: Sequence[Row], result: Mapping[str, Any]) -> None:
    table = Table(title=f"{result['model']} on {result['threads']} threads, {result['device']}")
    for heading in ("what", "baseline s", "cfbuild s", "ratio", "at least", "agreement"):
        table.add_column(heading, justify="left" if heading in ("what", "agreement") else "right")
    for row in rows:
        reached = "" if row.ratio >= row.at_least else " (missed)"
        agreement = row.agrees if row.equal else f"DIFFERS: {row.agrees}"
        numbers = (f"{row.baseline_s:.3g}", f"{row.ours_s:.3g}", f"{row.ratio:.1f}x")
        table.add_row(row.name, *numbers, f"{row.at_least:g}x{reached}", agreement)
    console = Console(width=160)
    console.print(table)
    for name in ("peak", "memory", "curve"):
        if name in result:
            console.print(f"{name}: {json.dumps(result[name])}")
    if not all(row.equal for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
