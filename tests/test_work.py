"""Chunks of work: the same results from this process, several, and a Ray cluster, whatever dies on the way."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cfbuild.errors import ConfigError, DataError, WorkerError
from cfbuild.work import LOCAL, WorkerOptions, map_chunks
from cfbuild.work.collector import collector_paused

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'cfbuild[ray]'")
RAY = os.environ.get("RAY_ADDRESS", LOCAL)
"""A cluster that runs already, where the environment names one: to start one takes long on a busy machine."""
TWO = WorkerOptions(workers=2)
EXECUTORS = [
    pytest.param(WorkerOptions(), id="one"),
    pytest.param(TWO, id="processes"),
    pytest.param(WorkerOptions(workers=2, ray=RAY), id="ray", marks=needs_ray),
]


@dataclass(frozen=True)
class Squares:
    """Squares numbers; a number in `deaths` kills its worker so many times, one in `errors` raises."""

    folder: Path
    deaths: tuple[tuple[int, int], ...] = ()
    errors: tuple[int, ...] = ()
    words: str = ""

    def open(self) -> Callable[[int], tuple[int, int]]:
        (self.folder / f"opened-{os.getpid()}").touch()
        deaths = dict(self.deaths)

        def do(number: int) -> tuple[int, int]:
            mark = self.folder / f"tries-{number}"
            tries = len(mark.read_text()) if mark.exists() else 0
            mark.write_text("x" * (tries + 1))
            if tries < deaths.get(number, 0):
                os.kill(os.getpid(), signal.SIGKILL)
            if number in self.errors:
                raise DataError(f"{number} has no square")
            if self.words:
                logging.getLogger("cfbuild.test").warning(self.words)
            return number, number * number

        return do


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ray's processes find the jobs of this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def opened(folder: Path) -> int:
    return len(list(folder.glob("opened-*")))


@pytest.mark.parametrize("workers", EXECUTORS)
def test_results_come_in_the_order_of_the_chunks(workers: WorkerOptions, tmp_path: Path) -> None:
    made: list[int] = []

    def chunks() -> Iterator[int]:
        for number in range(23):
            made.append(number)
            yield number

    found = []
    for result in map_chunks(Squares(tmp_path), chunks(), workers):
        found.append(result)
        assert len(made) <= len(found) + 4  # few are made ahead
    assert found == [(number, number * number) for number in range(23)]
    assert opened(tmp_path) == (workers.workers or 1)


@pytest.mark.parametrize("workers", EXECUTORS[1:])
def test_a_killed_workers_chunk_is_done_again_once_and_told(
    workers: WorkerOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = Squares(tmp_path, deaths=((0, 1), (3, 1), (9, 1)))
    assert list(map_chunks(job, range(12), workers)) == [(number, number * number) for number in range(12)]
    tries = {number: len((tmp_path / f"tries-{number}").read_text()) for number in range(12)}
    assert {number for number, count in tries.items() if count > 1} >= {0, 3, 9}
    repeated = [record.message for record in caplog.records if "done again" in record.message]
    assert len(repeated) == 3 and any("chunk 4 in hand" in one for one in repeated)


@pytest.mark.parametrize("workers", EXECUTORS[1:])
def test_a_chunk_that_kills_two_workers_ends_the_work(workers: WorkerOptions, tmp_path: Path) -> None:
    results = map_chunks(Squares(tmp_path, deaths=((2, 9),)), range(6), workers)
    with pytest.raises(WorkerError, match=r"chunk 3 was given to two workers.*fewer --workers"):
        list(results)
    assert len((tmp_path / "tries-2").read_text()) == 2


@pytest.mark.parametrize("workers", EXECUTORS)
def test_an_error_comes_at_its_chunks_turn_and_as_it_is(workers: WorkerOptions, tmp_path: Path) -> None:
    results = map_chunks(Squares(tmp_path, errors=(4,)), range(9), workers)
    assert [next(results)[0] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(DataError, match="4 has no square") as caught:
        next(results)
    if workers.workers:
        assert "test_work.py" in str(caught.value.__cause__)  # the trace of the other process


@pytest.mark.parametrize("workers", EXECUTORS)
def test_what_workers_log_is_told_once(
    workers: WorkerOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    list(map_chunks(Squares(tmp_path, words="squares are large"), range(8), workers))
    logged = [record for record in caplog.records if record.message == "squares are large"]
    assert logged and (len(logged) == 1 or not workers.workers)
    assert {(one.name, one.levelno) for one in logged} == {("cfbuild.test", logging.WARNING)}


class UnsendableError(Exception):
    """An error that another process cannot be given: its constructor wants more than its message."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


@dataclass(frozen=True)
class Broken:
    """A job that cannot be opened."""

    def open(self) -> Callable[[int], int]:
        raise UnsendableError(1, 2)


@pytest.mark.parametrize("workers", EXECUTORS[1:])
def test_a_job_that_cannot_be_opened_and_an_error_that_cannot_be_sent(workers: WorkerOptions) -> None:
    with pytest.raises(RuntimeError, match="UnsendableError: 1 and 2"):
        list(map_chunks(Broken(), range(3), workers))


def test_results_that_nobody_takes_leave_no_process(tmp_path: Path) -> None:
    results = map_chunks(Squares(tmp_path), range(99), TWO)
    next(results)
    results.close()  # type: ignore[attr-defined]
    ids = [int(path.name.partition("-")[2]) for path in tmp_path.glob("opened-*")]
    assert ids
    for process_id in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(process_id, 0)


def runs(process: int) -> bool:
    """Return True if the process is there, and not only its entry, which nobody may take in where it was orphaned."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, encoding="ascii").stdout
    return bool(state.strip()) and not state.startswith("Z")


RUN = """
import sys
from pathlib import Path
from test_work import TWO, Squares
from cfbuild.work import map_chunks
for one in map_chunks(Squares(Path(sys.argv[1])), range(10**9), TWO):
    print(one, flush=True)
"""


def test_who_gives_the_chunks_may_be_killed_and_leaves_no_process(tmp_path: Path) -> None:
    paths = os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[1])))
    environment = {**os.environ, "PYTHONPATH": paths}
    run = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], env=environment, stdout=subprocess.PIPE)
    assert run.stdout is not None
    with run.stdout:
        while opened(tmp_path) < 2:
            assert run.stdout.readline()
        run.kill()
    run.wait()
    ids = [int(path.name.partition("-")[2]) for path in tmp_path.glob("opened-*")]
    until = time.monotonic() + 60
    while any(map(runs, ids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(runs, ids))


def test_no_chunk_and_few_chunks(tmp_path: Path) -> None:
    assert list(map_chunks(Squares(tmp_path), [], TWO)) == []
    assert opened(tmp_path) == 0
    assert list(map_chunks(Squares(tmp_path), [3], WorkerOptions(workers=5))) == [(3, 9)]
    assert opened(tmp_path) == 1  # no process is started that has nothing to do


def test_workers_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="workers is 0"):
        WorkerOptions(workers=0).check_workers()
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'cfbuild\[ray\]'"):
        list(map_chunks(Squares(tmp_path), [1], WorkerOptions(ray=LOCAL)))


@needs_ray
@pytest.mark.skipif(RAY != LOCAL, reason="starts clusters of its own")
def test_a_cluster_that_does_not_answer_or_is_too_small(tmp_path: Path) -> None:
    import ray

    ray.init(address=LOCAL, num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        with pytest.raises(ConfigError, match=r"room for 1 workers .* and 3 are asked for"):
            list(map_chunks(Squares(tmp_path), [1], WorkerOptions(workers=3, ray="auto")))
        assert list(map_chunks(Squares(tmp_path), [5], WorkerOptions(ray="auto"))) == [(5, 25)]
        assert ray.is_initialized()  # a cluster that was there before stays
    finally:
        ray.shutdown()
    with pytest.raises(ConfigError, match="no Ray cluster answers"):
        list(map_chunks(Squares(tmp_path), [1], WorkerOptions(ray="127.0.0.1:1")))


def test_pythons_collector_is_paused_while_open_and_then_as_before() -> None:
    def collected(is_paused: bool) -> int:
        rounds: list[str] = []
        gc.callbacks.append(lambda phase, _: rounds.append(phase))
        try:
            with collector_paused(is_paused):
                kept = [[number] for number in range(5_000)]
                return len(rounds) if kept else -1
        finally:
            gc.callbacks.pop()

    assert collected(False) > 0
    assert collected(True) == 0
    with pytest.raises(DataError), collector_paused():
        raise DataError("within")
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
