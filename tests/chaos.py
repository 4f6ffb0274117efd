"""Every verb is killed (SIGKILL) at random moments and run again: the bytes are those of a run that nobody killed.

`python tests/chaos.py 50` does it fifty times a verb (`make chaos`); `test_chaos.py` a few times. Each run is a fork of
this process, which has imported everything and runs no thread of torch's.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import datasets
import huggingface_hub
import tiny
import torch
from hub import TOKEN, loopback_hub
from scored_build import records, write_scored
from servers import Proxy, oxigraph
from small_world import small_options, write_world

from cfbuild.filter.rank import FilterOptions, RankFilter
from cfbuild.lm.model import LanguageModel
from cfbuild.pipeline import publish as publish_verb
from cfbuild.pipeline.audit import AuditOptions, audit
from cfbuild.pipeline.export import ExportOptions, export_records
from cfbuild.pipeline.fetch import FetchOptions, fetch
from cfbuild.pipeline.generate import generate
from cfbuild.pipeline.report import report
from cfbuild.pipeline.validate_and_score import EvaluateOptions, evaluate
from cfbuild.publish.hub import Destination
from cfbuild.records import making
from cfbuild.score import passes
from cfbuild.sources.http import Client
from cfbuild.store import codec, jsonl
from cfbuild.store.folder import BuildFolder
from cfbuild.store.runs import TIMING, new_run

LONGEST_S = 120.0
"""A run that takes longer hangs."""
WD, WDT = "http://www.wikidata.org/entity/", "http://www.wikidata.org/prop/direct/"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
RELATIONS = ("P30", "P36", "P131", "P495")


@dataclass
class Task:
    """A verb: how its folder is made, what is run in it, and what else has to be the same (the Hub's files)."""

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    outside: Callable[[], Any] = field(default=lambda: None)


@dataclass
class Outcome:
    """The results of a verb's kills: how many, how many came after its end, and what was lost, in words."""

    kills: int = 0
    too_late: int = 0
    lost: list[str] = field(default_factory=list)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file but the lock, which names its process and time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def forked(act: Callable[[Path], object], folder: Path) -> int:
    """Start `act` in a process of its own; return its number."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    try:
        act(folder)
    except BaseException:  # noqa: BLE001 - told by the parent
        (folder.parent / "trace.txt").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def ended(process: int) -> int:
    """Return a process's end: 0, an exit code, or minus the signal; killed after LONGEST_S."""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return 124


def finish(task: Task, folder: Path) -> float:
    """Run a verb to its end; return the seconds it took. Raises RuntimeError with its trace if it fails."""
    started = time.monotonic()
    code = ended(forked(task.act, folder))
    if code:
        trace = folder.parent / "trace.txt"
        raise RuntimeError(f"exit {code}: {trace.read_text() if trace.exists() else 'no trace'}")
    return time.monotonic() - started


def kill_and_compare(name: str, task: Task, kills: int, root: Path) -> Outcome:
    """Kill a verb `kills` times, each in a fresh folder, and hold what a second run makes against the reference."""
    outcome, draw = Outcome(), random.Random(f"chaos:{name}")
    made = root / "made"
    task.prepare(made)
    whole = root / "whole" / "build"
    shutil.copytree(made, whole)
    finish(task, whole)  # the first run fills caches and pages
    expected, outside = contents(whole), task.outside()
    shutil.rmtree(whole)
    shutil.copytree(made, whole)
    duration_s = finish(task, whole)
    again = contents(whole)
    assert again == expected, [path for path in expected if again.get(path) != expected[path]]
    number = 0
    while outcome.kills < kills and number < 4 * kills:
        number += 1
        folder = root / str(number) / "build"
        shutil.copytree(made, folder)
        task.outside()
        process = forked(task.act, folder)
        time.sleep(draw.random() * duration_s)
        os.kill(process, signal.SIGKILL)
        killed = ended(process) == -signal.SIGKILL
        outcome.kills += killed
        outcome.too_late += not killed
        try:
            finish(task, folder)
            found, found_outside = contents(folder), task.outside()
        except RuntimeError as error:
            outcome.lost.append(f"kill {number}: {error}")
            continue
        differing = sorted(path for path in {*expected, *found} if expected.get(path) != found.get(path))
        if differing or found_outside != outside:
            outcome.lost.append(f"kill {number}: {', '.join(differing) or 'the Hub'} differ")
        shutil.rmtree(folder.parent)
    return outcome


class Memory(Proxy):
    """Answers the same question with the same bytes: a server may order rows as it likes, and does."""

    known: ClassVar[dict[bytes, tuple[int, str, bytes]]] = {}

    def forward(self, form: bytes) -> tuple[int, str, bytes]:
        if form not in self.known:
            self.known[form] = super().forward(form)
        return self.known[form]


def graph() -> str:
    """Some 800 facts of four relations, as N-Triples."""
    lines = [
        f"<{WD}Q{n}> <{WDT}{relation}> <{WD}Q{1000 + (n * (place + 3)) % 37}> ."
        for place, relation in enumerate(RELATIONS)
        for n in range(1, 201)
    ]
    lines += [f'<{WD}Q{n}> <{LABEL}> "item {n} é"@en .' for n in (*range(1, 201), *range(1000, 1037))]
    return "\n".join(lines)


def tasks(stack: ExitStack, root: Path) -> dict[str, Task]:
    """Every verb; servers run until `stack` is closed."""
    url = stack.enter_context(Memory(stack.enter_context(oxigraph(root, graph())))).url
    hub = stack.enter_context(loopback_hub())
    for constant, value in (("ENDPOINT", hub.url), ("HF_HUB_DISABLE_XET", True)):
        stack.enter_context(mock.patch.object(huggingface_hub.constants, constant, value))
    huggingface_hub.utils.disable_progress_bars()
    stack.enter_context(mock.patch.dict(os.environ, {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}))
    # Answers are dated; a run later than another would differ in nothing else.
    stack.enter_context(mock.patch.object(Client, "now", lambda self: "2026-01-01T00:00:00+00:00"))
    # Smaller chunks give more moments at which something is half done; bytes depend on none but the second.
    for module, constant, size in (
        (making, "JUDGED_AT_ONCE", 8),
        (passes, "CASES_AT_ONCE", 2),
    ):
        stack.enter_context(mock.patch.object(module, constant, size))
    lm = tiny.make("gpt2")

    def scored(folder: Path) -> None:
        generate(BuildFolder(write_world(folder, 60)), small_options(limit=8))

    def score(folder: Path) -> None:
        os.environ["CFBUILD_CACHE"] = str(folder.parent / "cache")
        options = EvaluateOptions(covariance_tokens=300, steps=3, skip_generation=True, layer=1)
        evaluate(BuildFolder(folder), options, lm)
        # What editing took differs from run to run; the page without it must not.
        new_run(BuildFolder(folder), "rome").path(TIMING).unlink(missing_ok=True)
        report(BuildFolder(folder))

    def audited(folder: Path) -> None:
        folder.mkdir(parents=True)
        jsonl.write_jsonl(folder / "theirs.jsonl", map(codec.encode_record, records(400, hostile=True)))

    def published() -> Any:
        files = {name: repository.commits[repository.branches["main"]] for name, repository in hub.repositories.items()}
        hub.repositories.clear()
        hub.objects.clear()
        return files

    return {
        "fetch": Task(
            lambda folder: folder.mkdir(parents=True),
            lambda folder: fetch(BuildFolder(folder), FetchOptions(endpoint=url, relations=RELATIONS, attempts=1)),
        ),
        "generate": Task(lambda folder: write_world(folder, 60), lambda folder: judged(folder, lm)),
        "validate-and-score": Task(scored, score),
        "publish": Task(
            lambda folder: write_scored(folder, records(60)),
            lambda folder: publish_verb.publish(BuildFolder(folder), Destination("me/mine")),
            published,
        ),
        "export": Task(
            lambda folder: write_scored(folder, records(1500)),
            lambda folder: export_records(BuildFolder(folder), ExportOptions("easyedit")),
        ),
        "audit --fix": Task(
            audited, lambda folder: audit(AuditOptions(folder / "theirs.jsonl", fix=folder / "fixed.jsonl"))
        ),
    }


def judged(folder: Path, lm: LanguageModel) -> None:
    generate(BuildFolder(folder), small_options(limit=40), RankFilter(lm, FilterOptions(0.2)))


def main(kills: int, names: list[str]) -> None:
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    lost = []
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        for name, task in tasks(stack, Path(place)).items():
            if names and name not in names:
                continue
            root = Path(place) / name.split()[0]
            outcome = kill_and_compare(name, task, kills, root)
            lost += outcome.lost
            print(f"{name}: {outcome.kills} kills, {len(outcome.lost)} losses", flush=True)
            assert outcome.kills == kills or outcome.lost, f"{outcome.too_late} times it had ended before it was killed"
            for loss in outcome.lost:
                print(f"  {loss}", flush=True)
    if lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
