"""The command `doctor`."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from cfbuild.cli.shared import OutputOptions
from cfbuild.pipeline.doctor import Diagnosis, DoctorOptions, examine

EXAMPLES = ("cfbuild doctor", "cfbuild doctor --network --contact you@example.org", "cfbuild doctor --json")
GB = 1e9
"""Bytes of a gigabyte, as makers of memory and disks count."""


def run(options: DoctorOptions, output: OutputOptions) -> None:
    """Show the packages, devices, cache and models that cfbuild finds here, and what to repair.

    Exits with 1 if something must be repaired. With --network it also asks the public services for an answer.
    """
    with output.progress() as progress:
        found = examine(options, progress)
    output.print_summary(found, _lines)
    if found.faults:
        raise typer.Exit(1)


def _lines(found: Diagnosis) -> Iterator[str]:
    yield f"cfbuild {found.cfbuild}, Python {found.python}, {found.system}"
    needed = [f"{package.name} {package.version}" for package in found.packages if package.extra is None]
    yield f"packages: {', '.join(needed)}"
    missing = sorted({f"{one.name} ({one.extra})" for one in found.packages if one.version is None and one.extra})
    if missing:
        yield f"not installed, and needed only for the extra in brackets: {', '.join(missing)}"
    for device in found.devices:
        yield (
            f"{device.device}: {device.name}; {_size(device.total_bytes)}, {_size(device.free_bytes)} free; "
            f"{device.gflops:,.0f} GFLOP/s in float32; fast in {', '.join(device.fast)}"
        )
    cache = found.cache
    yield f"cache: {cache.path}, {_size(cache.used_bytes)}, {_size(cache.free_bytes)} free on its disk"
    for name, where in found.models.items():
        yield f"model {name}: {where}"
    for service in found.services:
        yield f"{service.service}: {'answers' if service.answered else 'does not answer'} ({service.detail})"
    for fault in found.faults:
        yield f"to repair: {fault}"


def _size(count: int | None) -> str:
    return "memory unknown" if count is None else f"{count / GB:,.1f} GB"
