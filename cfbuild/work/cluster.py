"""Workers of a Ray cluster, which the optional package Ray runs as actors."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cfbuild.errors import ConfigError
from cfbuild.work import LOCAL, ChunkResult, DiedError, Job, JobRunner, WorkerOptions, gpus_each

MOST_CHARACTERS = 300
"""Characters to show of Ray's message on an actor's death: enough for the node's address and the place of its logs."""


class RayActors:
    """Actors of a Ray cluster, with a CPU each. With the address LOCAL the cluster is started, and ended by `close`."""

    def __init__(self, job: Job[Any, Any], workers: WorkerOptions) -> None:
        self._ray, self._is_own = _ray(workers)
        resources, gpus = self._ray.cluster_resources(), gpus_each(workers)
        room = int(min(resources.get("CPU", 0), resources.get("GPU", 0) // gpus if gpus else math.inf))
        self.count = workers.workers or max(1, room)
        if self.count > room:
            self.close()
            each = f"a CPU and {gpus} GPUs each" if gpus else "a CPU each"
            raise ConfigError(
                f"the Ray cluster has room for {room} workers ({each}) and {self.count} are asked for; ask for fewer"
            )
        self._job = self._ray.put(job)
        self._actor = self._ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0)(JobRunner)

    def start(self) -> _RayActor:
        """Return a new worker."""
        return _RayActor(self._ray, self._actor.remote(self._job))

    def stop(self, worker: _RayActor) -> None:
        """End the `worker`, whether its chunk is done or not."""
        self._ray.kill(worker.actor)

    def finished(self, workers: Sequence[_RayActor]) -> Sequence[_RayActor]:
        """Return those of `workers` whose chunk is done or that have died, after waiting for the first."""
        ready, _ = self._ray.wait([worker.promise for worker in workers], num_returns=1)
        return [worker for worker in workers if worker.promise in ready]

    def close(self) -> None:
        """End the cluster, if it was started here."""
        if self._is_own:
            self._ray.shutdown()


class _RayActor:
    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self.actor = actor
        self.promise: Any = None

    def send(self, chunk: Any) -> None:
        self.promise = self.actor.do.remote(chunk)

    def receive(self) -> ChunkResult:
        try:
            result: ChunkResult = self._ray.get(self.promise)
        except self._ray.exceptions.RayActorError as error:
            reason = " ".join(str(error).split())
            raise DiedError(f"of the Ray cluster died ({reason[:MOST_CHARACTERS]})") from error
        return result


def _ray(workers: WorkerOptions) -> tuple[Any, bool]:
    """Return Ray's module, connected to a cluster, and whether the connection or cluster is to be closed here.

    Raises ConfigError if Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report its use to its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as its next versions do; else it warns
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--ray needs Ray, which is not installed; run: pip install 'cfbuild[ray]'") from error
    if ray.is_initialized():
        return ray, False
    # Ray's processes import the jobs from where this process does, though their working folder is another one.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    variables = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths))}}
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": variables}
    try:
        if workers.ray == LOCAL:
            ray.init(address=LOCAL, num_cpus=workers.workers, include_dashboard=False, **options)
        else:
            ray.init(address=workers.ray, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {workers.ray} ({error}); expected an address such as 10.0.0.1:6379, auto for "
            f"the cluster of this machine that runs already, or {LOCAL} for one of its own"
        ) from error
    return ray, True
