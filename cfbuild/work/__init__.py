"""Work in chunks, by this process, by several, or by a Ray cluster: the same results, in the order of the chunks.

A job is a value that is sent to each worker, where its `open` makes the function that does a chunk. A worker that dies
is replaced, and its chunk is done once more. Few chunks are made ahead, so a stream of any length takes the memory of
the chunks that are worked on.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from logging.handlers import BufferingHandler
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

from cfbuild.errors import ConfigError, WorkerError, check_least
from cfbuild.option import ABOUT_RUN, option

Chunk_contra = TypeVar("Chunk_contra", contravariant=True)
Done_co = TypeVar("Done_co", covariant=True)
Chunk = TypeVar("Chunk")
Done = TypeVar("Done")

LogMessage = tuple[int, str, str]
"""A message that was logged: its level, the name of its logger, and its text."""

GPUS = "CUDA_VISIBLE_DEVICES"
"""The environment variable with the GPUs that a process sees, by CUDA's documentation."""
LOCAL = "local"
"""The address that means a Ray cluster of this machine, which ends with the work; Ray's own word."""
AHEAD = 2
"""Chunks that are made for each worker before their turn, so that none waits while results are used."""
END_WITHIN_S = 5.0
"""Seconds that a process has to end once its pipe is closed."""

_log = logging.getLogger(__name__)


class Job(Protocol[Chunk_contra, Done_co]):
    """Work on chunks: a value that can be sent to another process."""

    def open(self) -> Callable[[Chunk_contra], Done_co]:
        """Return the function that does a chunk; it is called once in each worker, so it may take long."""
        ...


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """The workers of a command. workers: None is one, and with `ray` as many as the cluster has CPUs."""

    workers: int | None = option(
        None, "Work in N processes. [default: 1; with --ray one for each CPU of the cluster]", panel=ABOUT_RUN
    )
    ray: str | None = option(
        None, f"Work on a Ray cluster: its address, or {LOCAL} to start one here.", panel=ABOUT_RUN, metavar="ADDRESS"
    )

    def check_workers(self) -> None:
        """Raise ConfigError for fewer workers than one."""
        check_least(self, workers=1)

    @property
    def count(self) -> int:
        """Return the number of processes, if they are no cluster's."""
        return self.workers or 1

    @property
    def is_alone(self) -> bool:
        """Return whether this process does the work."""
        return self.ray is None and self.count == 1


@dataclass(frozen=True, kw_only=True)
class ModelWorkerOptions(WorkerOptions):
    """The workers of a command that runs a model, which each of them loads. gpus: with 0, each sees all GPUs."""

    gpus: int = option(0, "Give each process N GPUs of its own.", panel=ABOUT_RUN)

    def check_workers(self) -> None:
        """Raise ConfigError for fewer workers than one, or fewer GPUs than none."""
        check_least(self, workers=1, gpus=0)


ALONE = WorkerOptions()
"""This process."""


def map_chunks(
    job: Job[Chunk, Done], chunks: Iterable[Chunk], workers: WorkerOptions = ALONE, *, ahead: int = AHEAD
) -> Iterator[Done]:
    """Yield the result of the job for each chunk, in their order.

    ahead: the chunks that are made for each worker before their turn. Raises what the job raises; WorkerError if two
    workers died of the same chunk; ConfigError if Ray is not installed or its cluster is too small.
    """
    if workers.is_alone:
        yield from map(job.open(), chunks)
        return
    if workers.ray is None:
        pool: _WorkerPool = _Processes(job, workers)
    else:
        from cfbuild.work.cluster import RayActors

        pool = RayActors(job, workers)
    with closing(pool), closing(_Scheduler[Chunk, Done](pool)) as scheduler:
        yield from scheduler.results(chunks, ahead)


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The result of a chunk, or the error that it ended in with its trace.

    logged: what the worker logged meanwhile.
    """

    value: Any = None
    error: Exception | None = None
    trace: str = ""
    logged: tuple[LogMessage, ...] = ()

    def get(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error from _WorkerTraceError(f"\n{self.trace}")
        return self.value


class _WorkerTraceError(Exception):
    """The trace of an error in another process, as text."""


class DiedError(Exception):
    """The death of a worker before its chunk was done. The text goes on after "a worker": "was killed by signal 9"."""


class _Worker(Protocol):
    """A worker, which does at most one chunk at a time."""

    def send(self, chunk: Any) -> None: ...

    def receive(self) -> ChunkResult:
        """Return the result of the chunk that was sent. Raises DiedError if the worker died."""
        ...


class _WorkerPool(Protocol):
    """The starter of workers, of which at most `count` exist at the same time."""

    count: int

    def start(self) -> _Worker: ...

    def stop(self, worker: Any) -> None:
        """End a worker, whether its chunk is done or not, so that another may be started."""
        ...

    def finished(self, workers: Sequence[Any]) -> Sequence[_Worker]:
        """Return those of `workers` whose chunk is done or that have died, after waiting for the first."""
        ...

    def close(self) -> None: ...


class _Scheduler(Generic[Chunk, Done]):
    """The chunks of a map: which worker does which, and the results whose turn has not come."""

    def __init__(self, pool: _WorkerPool) -> None:
        self._pool = pool
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, tuple[int, Chunk]] = {}
        self._results: dict[int, ChunkResult] = {}
        self._repeated: set[int] = set()
        self._logged: set[LogMessage] = set()

    def results(self, chunks: Iterable[Chunk], ahead: int) -> Iterator[Done]:
        """Yield the results of the chunks in order."""
        numbered, sent, place, has_more = enumerate(chunks), 0, 0, True
        while True:
            while has_more and sent - place < self._pool.count * ahead and self._has_free_worker():
                task = next(numbered, None)
                has_more = task is not None
                if task is not None:
                    self._send(*task)
                    sent += 1
            if place == sent:
                return
            if place in self._results:
                result = self._results.pop(place)
                place += 1
                self._log(result)
                yield result.get()
            else:
                self._receive()

    def _has_free_worker(self) -> bool:
        return bool(self._idle) or len(self._busy) < self._pool.count

    def _send(self, number: int, chunk: Chunk) -> None:
        worker = self._idle.pop() if self._idle else self._pool.start()
        self._busy[worker] = number, chunk
        worker.send(chunk)

    def _receive(self) -> None:
        """Receive the results that are there; a chunk whose worker died is sent to a new one."""
        for worker in self._pool.finished(list(self._busy)):
            number, chunk = self._busy.pop(worker)
            try:
                self._results[number] = worker.receive()
                self._idle.append(worker)
            except DiedError as error:
                self._pool.stop(worker)
                self._refuse_repeated(number, error)
                _log.warning("a worker %s with chunk %d in hand, which is done again", error, number + 1)
                self._send(number, chunk)

    def _refuse_repeated(self, number: int, error: DiedError) -> None:
        if number in self._repeated:
            raise WorkerError(
                f"chunk {number + 1} was given to two workers, and each was killed or ran out of memory (the last one "
                f"{error}); use fewer --workers or make room, and run again: what is finished is kept"
            ) from error
        self._repeated.add(number)

    def _log(self, result: ChunkResult) -> None:
        """Log what workers logged, a message of several workers once."""
        for message in result.logged:
            if message not in self._logged:
                self._logged.add(message)
                level, name, text = message
                logging.getLogger(name).log(level, "%s", text)

    def close(self) -> None:
        """Stop all workers, whether their chunks are done or not."""
        for worker in (*self._idle, *self._busy):
            self._pool.stop(worker)


class JobRunner:
    """A job in a worker's process, opened with its first chunk."""

    def __init__(self, job: Job[Any, Any]) -> None:
        self._job = job
        self._do: Callable[[Any], Any] | None = None
        self._kept = BufferingHandler(sys.maxsize)
        logger = logging.getLogger("cfbuild")
        logger.addHandler(self._kept)
        logger.propagate = False

    def do(self, chunk: Any) -> ChunkResult:
        """Return the result of a chunk."""
        try:
            if self._do is None:
                self._do = self._job.open()
            value = self._do(chunk)
        except Exception as error:  # noqa: BLE001  raised again by `ChunkResult.get`
            return ChunkResult(error=_sendable(error), trace=traceback.format_exc(), logged=self._logged())
        return ChunkResult(value, logged=self._logged())

    def _logged(self) -> tuple[LogMessage, ...]:
        messages = tuple((record.levelno, record.name, record.getMessage()) for record in self._kept.buffer)
        self._kept.flush()
        return messages


def _sendable(error: Exception) -> Exception:
    """Return the error, or if it cannot be sent to another process, one with its type and message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  whatever a foreign error's constructor raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _serve(connection: Connection, job: Job[Any, Any]) -> None:
    """Do the chunks that come through a pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that sends chunks stops this
    runner = JobRunner(job)
    try:
        while True:
            connection.send(runner.do(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment to `values` while open."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Process:
    """A new process of this machine, which copies nothing of this one but the job and the environment.

    number: its number among the workers, which goes on to a process that replaces it. variables: those that are added
    to its environment.
    """

    def __init__(self, job: Job[Any, Any], number: int, variables: Mapping[str, str]) -> None:
        context = get_context("spawn")
        self.number = number
        self.connection, its_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(its_end, job), daemon=True)
        with environment(variables):
            self._process.start()
        its_end.close()

    def send(self, chunk: Any) -> None:
        with suppress(OSError):  # `receive` says that the process is dead
            self.connection.send(chunk)

    def receive(self) -> ChunkResult:
        try:
            result: ChunkResult = self.connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(END_WITHIN_S)
            code = self._process.exitcode
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
            raise DiedError(how) from error
        return result

    def stop(self) -> None:
        self.connection.close()
        self._process.kill()
        self._process.join(END_WITHIN_S)


class _Processes:
    """Processes of this machine, each with GPUs of its own if the options say so. Raises what `gpus_of` does."""

    def __init__(self, job: Job[Any, Any], workers: WorkerOptions) -> None:
        self.count = workers.count
        self._job = job
        self._gpus = [gpus_of(number, workers) for number in range(self.count)]
        self._free_numbers = [*range(self.count)]

    def start(self) -> _Process:
        number = self._free_numbers.pop(0)
        gpus = self._gpus[number]
        return _Process(self._job, number, {GPUS: ",".join(gpus)} if gpus else {})

    def stop(self, worker: _Process) -> None:
        worker.stop()
        self._free_numbers.append(worker.number)

    def finished(self, workers: Sequence[_Process]) -> Sequence[_Process]:
        ready = wait([worker.connection for worker in workers])
        return [worker for worker in workers if worker.connection in ready]

    def close(self) -> None:
        """Do nothing: each process is stopped by itself."""


def gpus_each(workers: WorkerOptions) -> int:
    """Return the number of GPUs that each worker has to itself."""
    return workers.gpus if isinstance(workers, ModelWorkerOptions) else 0


def gpus_of(number: int, workers: WorkerOptions) -> list[str]:
    """Return the names of the GPUs that a worker has to itself; none without `--gpus`. number: the worker's, from 0.

    Raises ConfigError if the environment names too few; whether the machine has them, only a worker can find out.
    """
    each = gpus_each(workers)
    shown = os.environ.get(GPUS)
    names = shown.split(",") if shown else [str(gpu) for gpu in range(workers.count * each)]
    if len(names) < workers.count * each:
        raise ConfigError(
            f"{workers.count} workers with {each} GPUs each need {workers.count * each}, and {GPUS} "
            f"shows {len(names)}; give fewer --workers or --gpus"
        )
    return names[number * each : (number + 1) * each]
