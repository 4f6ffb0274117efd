"""Work in chunks, by this process, by several, or by a Ray cluster: the same results, in the order of the chunks.

A job is a value that is sent to whoever works; there `open` makes the function that does a chunk, once a worker. A
worker that is killed is replaced, and its chunk is done again, once. Of the chunks, few are made ahead, so a stream of
them of any length takes the memory of those in hand.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

from cfbuild.errors import ConfigError, WorkerError, check_least
from cfbuild.option import ABOUT_RUN, option

Chunk_contra = TypeVar("Chunk_contra", contravariant=True)
Done_co = TypeVar("Done_co", covariant=True)
Chunk = TypeVar("Chunk")
Done = TypeVar("Done")

GPUS = "CUDA_VISIBLE_DEVICES"
"""The variable by which a process is told which GPUs it sees."""
LOCAL = "local"
"""The address that stands for a Ray cluster of this machine, which ends with the work."""
AHEAD = 2
"""Chunks that are made for each worker before their turn, so that none waits while results are taken in."""
FAREWELL_S = 5.0
"""Seconds that a process has to end once its pipe is closed."""

_log = logging.getLogger(__name__)


class Job(Protocol[Chunk_contra, Done_co]):
    """Work on chunks: a value that can be sent to another process."""

    def open(self) -> Callable[[Chunk_contra], Done_co]:
        """Return the function that does a chunk; what takes long to make is made here."""
        ...


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """The workers of a command. `workers` None is one, and with `ray` as many as the cluster has CPUs."""

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
        """The number of processes, where no cluster says how many it has."""
        return self.workers or 1

    @property
    def is_alone(self) -> bool:
        """True if this process does the work."""
        return self.ray is None and self.count == 1


@dataclass(frozen=True, kw_only=True)
class ModelWorkerOptions(WorkerOptions):
    """The workers of a command that runs a model; each loads its own.

    gpus: how many GPUs each worker has to itself, of those that are visible; with 0 all workers see all of them.
    """

    gpus: int = option(0, "Give each process N GPUs of its own.", panel=ABOUT_RUN)

    def check_workers(self) -> None:
        """Raise ConfigError for fewer workers than one, or fewer GPUs than none."""
        check_least(self, workers=1, gpus=0)


ALONE = WorkerOptions()
"""This process."""


def map_chunks(
    job: Job[Chunk, Done], chunks: Iterable[Chunk], workers: WorkerOptions = ALONE, *, ahead: int = AHEAD
) -> Iterator[Done]:
    """Yield the result of the job for each chunk, in their order, whoever does it.

    ahead: the chunks that are made for each worker before their turn. Raises what the job raises; WorkerError if two
    workers died of one chunk; ConfigError where Ray is not installed or its cluster is too small.
    """
    if workers.is_alone:
        yield from map(job.open(), chunks)
        return
    hiring = _Processes(job, workers) if workers.ray is None else _ray_actors(job, workers)
    with closing(hiring), closing(_Crew[Chunk, Done](hiring)) as crew:
        yield from crew.results(chunks, ahead)


def _ray_actors(job: Job[Any, Any], workers: WorkerOptions) -> _Hiring:
    from cfbuild.work.cluster import RayActors

    return RayActors(job, workers)


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The result of a chunk, or the error that it ended in with its trace; `notes` are what was logged meanwhile."""

    value: Any = None
    error: Exception | None = None
    trace: str = ""
    notes: tuple[tuple[int, str, str], ...] = ()

    def get(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error from _WorkersTraceError(f"\n{self.trace}")
        return self.value


class _WorkersTraceError(Exception):
    """The trace of an error in another process, as text."""


class DiedError(Exception):
    """The end of a worker before the end of its chunk; the text says how it ended."""


class _Worker(Protocol):
    """A worker with at most one chunk in hand."""

    def give(self, chunk: Any) -> None: ...

    def take(self) -> ChunkResult:
        """Return the result of the chunk in hand. Raises DiedError."""
        ...

    def stop(self) -> None: ...


class _Hiring(Protocol):
    """A place where workers come from, `count` at most at a time."""

    count: int

    def start(self) -> _Worker: ...

    def leave(self, worker: Any) -> None:
        """Note that a worker has ended; another may be started."""
        ...

    def finished(self, workers: Sequence[Any]) -> Sequence[_Worker]:
        """Return those of `workers` that are done with their chunk or dead, after waiting for the first."""
        ...

    def close(self) -> None: ...


class _Crew(Generic[Chunk, Done]):
    """The workers of a map: who has which chunk in hand, and the outcomes whose turn has not come."""

    def __init__(self, hiring: _Hiring) -> None:
        self._hiring = hiring
        self._idle: list[_Worker] = []
        self._busy: dict[_Worker, tuple[int, Chunk]] = {}
        self._results: dict[int, ChunkResult] = {}
        self._repeated: set[int] = set()
        self._noted: set[Hashable] = set()

    def results(self, chunks: Iterable[Chunk], ahead: int) -> Iterator[Done]:
        """Yield the results of the chunks in order."""
        numbered, given, place, left = enumerate(chunks), 0, 0, True
        while True:
            while left and given - place < self._hiring.count * ahead and self._is_free():
                found = next(numbered, None)
                left = found is not None
                if found is not None:
                    self._give(found)
                    given += 1
            if place == given:
                return
            if place in self._results:
                result = self._results.pop(place)
                place += 1
                self._tell(result)
                yield result.get()
            else:
                self._collect()

    def _is_free(self) -> bool:
        return bool(self._idle) or len(self._busy) < self._hiring.count

    def _give(self, task: tuple[int, Chunk]) -> None:
        worker = self._idle.pop() if self._idle else self._hiring.start()
        self._busy[worker] = task
        worker.give(task[1])

    def _collect(self) -> None:
        """Take the outcomes that are there; a chunk whose worker died is given to a new one."""
        for worker in self._hiring.finished(list(self._busy)):
            number, chunk = self._busy.pop(worker)
            try:
                self._results[number] = worker.take()
                self._idle.append(worker)
            except DiedError as error:
                worker.stop()
                self._hiring.leave(worker)
                self._refuse_repeated(number, error)
                _log.warning("a worker %s with chunk %d in hand, which is done again", error, number + 1)
                self._give((number, chunk))

    def _refuse_repeated(self, number: int, error: DiedError) -> None:
        if number in self._repeated:
            raise WorkerError(
                f"chunk {number + 1} was given to two workers, and each was killed or ran out of memory (the last one "
                f"{error}); use fewer --workers or make room, and run again: what is finished is kept"
            ) from error
        self._repeated.add(number)

    def _tell(self, result: ChunkResult) -> None:
        """Log what workers logged: what several of them say in the same words, once."""
        for note in result.notes:
            if note not in self._noted:
                self._noted.add(note)
                level, name, message = note
                logging.getLogger(name).log(level, "%s", message)

    def close(self) -> None:
        """Stop all workers, whatever they have in hand."""
        for worker in (*self._idle, *self._busy):
            worker.stop()


class _Notes(logging.Handler):
    """A handler that keeps the messages logged in a worker."""

    def __init__(self) -> None:
        super().__init__()
        self._found: list[tuple[int, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append((record.levelno, record.name, record.getMessage()))

    def taken(self) -> tuple[tuple[int, str, str], ...]:
        found, self._found = tuple(self._found), []
        return found


class Service:
    """A job in the process of a worker, opened with its first chunk."""

    def __init__(self, job: Job[Any, Any]) -> None:
        self._job = job
        self._do: Callable[[Any], Any] | None = None
        self._notes = _Notes()
        logger = logging.getLogger("cfbuild")
        logger.addHandler(self._notes)
        logger.propagate = False

    def do(self, chunk: Any) -> ChunkResult:
        """Return the result of a chunk."""
        try:
            if self._do is None:
                self._do = self._job.open()
            value = self._do(chunk)
        except Exception as error:  # noqa: BLE001  an error of any kind is raised again by whoever waits for the chunk
            return ChunkResult(error=_sendable(error), trace=traceback.format_exc(), notes=self._notes.taken())
        return ChunkResult(value, notes=self._notes.taken())


def _sendable(error: Exception) -> Exception:
    """Return the error if another process can be given it, else one with its type and message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  whatever a foreign error's constructor raises
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _serve(connection: Connection, job: Job[Any, Any]) -> None:
    """Do chunks until there are no more, or whoever gives them is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who pressed the keys stops the process that gives the chunks
    service = Service(job)
    try:
        while True:
            connection.send(service.do(connection.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment while open, for processes that are started meanwhile."""
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
    """A process of this machine, started afresh: nothing of this one is copied but the job and the environment.

    `seat` is its number among the workers, which one that takes its place gets too.
    """

    def __init__(self, job: Job[Any, Any], seat: int, environment: Mapping[str, str]) -> None:
        context = get_context("spawn")
        self.seat = seat
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job), daemon=True)
        with _environment(environment):
            self._process.start()
        theirs.close()

    def give(self, chunk: Any) -> None:
        with suppress(OSError):  # a dead one's `take` says so
            self.connection.send(chunk)

    def take(self) -> ChunkResult:
        try:
            result: ChunkResult = self.connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(FAREWELL_S)
            code = self._process.exitcode
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
            raise DiedError(how) from error
        return result

    def stop(self) -> None:
        self.connection.close()
        self._process.kill()
        self._process.join(FAREWELL_S)


class _Processes:
    """Processes of this machine, which share out its GPUs where that is asked for.

    Raises ConfigError if there are fewer GPUs than are asked for.
    """

    def __init__(self, job: Job[Any, Any], workers: WorkerOptions) -> None:
        self.count = workers.count
        self._job = job
        self._gpus = [gpus_of(seat, workers) for seat in range(self.count)]
        self._seats = [*range(self.count)]

    def start(self) -> _Process:
        seat = self._seats.pop(0)
        own = self._gpus[seat]
        return _Process(self._job, seat, {GPUS: ",".join(own)} if own else {})

    def leave(self, worker: _Process) -> None:
        """Give a worker that has ended no work again: its seat is free."""
        self._seats.append(worker.seat)

    def finished(self, workers: Sequence[_Process]) -> Sequence[_Process]:
        ready = wait([worker.connection for worker in workers])
        return [worker for worker in workers if worker.connection in ready]

    def close(self) -> None:
        """Do nothing: each process is stopped by itself."""


def gpus_each(workers: WorkerOptions) -> int:
    return workers.gpus if isinstance(workers, ModelWorkerOptions) else 0


def gpus_of(seat: int, workers: WorkerOptions) -> list[str]:
    """Return the names of the GPUs that the worker with number `seat` has to itself; empty where none are asked for.

    Raises ConfigError if the environment shows too few; whether the machine has them, a worker finds out.
    """
    each = gpus_each(workers)
    shown = os.environ.get(GPUS)
    names = shown.split(",") if shown else [str(number) for number in range(workers.count * each)]
    if len(names) < workers.count * each:
        raise ConfigError(
            f"{workers.count} workers with {each} GPUs each need {workers.count * each}, and {GPUS} "
            f"shows {len(names)}; give fewer --workers or --gpus"
        )
    return names[seat * each : (seat + 1) * each]
