"""Workers that are actors of a Ray cluster, which the optional package Ray runs."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cfbuild.errors import ConfigError
from cfbuild.work import LOCAL, ChunkResult, DiedError, Job, Service, WorkerOptions, gpus_each

MOST_SAID = 300
"""Characters of what Ray says of an actor's death; it tells the node's address and the place of its logs."""


class RayActors:
    """Actors of a Ray cluster, a CPU each. A cluster of this machine's own is started, and ended by `close`."""

    def __init__(self, job: Job[Any, Any], workers: WorkerOptions) -> None:
        self._ray, self._ours = _ray(workers)
        has, gpus = self._ray.cluster_resources(), gpus_each(workers)
        room = int(min(has.get("CPU", 0), has.get("GPU", 0) // gpus if gpus else math.inf))
        self.count = workers.workers or max(1, room)
        if self.count > room:
            self.close()
            each = f"a CPU and {gpus} GPUs each" if gpus else "a CPU each"
            raise ConfigError(
                f"the Ray cluster has room for {room} workers ({each}) and {self.count} are asked for; ask for fewer"
            )
        self._job = self._ray.put(job)
        self._actor = self._ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(Service)

    def start(self) -> _RayActor:
        return _RayActor(self._ray, self._actor.remote(self._job))

    def leave(self, worker: _RayActor) -> None:
        """Do nothing: Ray knows."""

    def finished(self, workers: Sequence[_RayActor]) -> Sequence[_RayActor]:
        ready, _ = self._ray.wait([worker.promise for worker in workers], num_returns=1)
        return [worker for worker in workers if worker.promise in ready]

    def close(self) -> None:
        """End the cluster, if it was started here."""
        if self._ours:
            self._ray.shutdown()


class _RayActor:
    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self._actor = actor
        self.promise: Any = None

    def give(self, chunk: Any) -> None:
        self.promise = self._actor.do.remote(chunk)

    def take(self) -> ChunkResult:
        try:
            result: ChunkResult = self._ray.get(self.promise)
        except self._ray.exceptions.RayActorError as error:
            why = " ".join(str(error).split())
            raise DiedError(f"of the Ray cluster died ({why[:MOST_SAID]})") from error
        return result

    def stop(self) -> None:
        self._ray.kill(self._actor)


def _ray(workers: WorkerOptions) -> tuple[Any, bool]:
    """Return the library with a cluster that it is connected to; True if that cluster was started for this.

    Raises ConfigError if the library is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report its use to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as its next versions do; else it warns
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray needs Ray, which is not installed; run: pip install 'cfbuild[ray]'") from error
    if ray.is_initialized():
        return ray, False
    # Its processes find the jobs where this process did, though it was started elsewhere.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    found = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths))}}
    given: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": found}
    try:
        if workers.ray == LOCAL:
            ray.init(address=LOCAL, num_cpus=workers.workers, include_dashboard=False, **given)
        else:
            ray.init(address=workers.ray, **given)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {workers.ray} ({error}); expected an address such as 10.0.0.1:6379, auto for "
            f"the cluster of this machine that runs already, or {LOCAL} for one of its own"
        ) from error
    return ray, True
