"""The engine of many machines: actors of a Ray cluster, each with a GPU or a processor of its own.

A worker that dies, alone or with its node, is started again wherever the cluster has room; until
then the others go on. A driver that dies takes its actors along, and the same command goes on.
"""

import functools
import logging
import os
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate import loaded, worker
from skipdit_cli.generate.engine import share
from skipdit_cli.generate.worker import Ended, OnDone, OnFailed, Task
from skipdit_cli.storage import provenance
from skipdit_cli.storage.disk import on_disk

DIED = functools.partial(
    SkipditError,
    "a worker of the Ray cluster died: killed, out of memory, or with its node",
    fix="run the same command again: it continues; `ray status` tells which nodes there are",
)


@dataclass(frozen=True)
class Ray:
    """Workers of a Ray cluster, connected to by `connect`; they stay until `close`.

    Attributes:
        workers: as many, as soon as the cluster has room for them.
        folder: the results folder, which every node sees; None has what is made sent here.
        gpus: of each worker, 1 or 0.
        connected: whether the connection to the cluster is its own, and ends with it.
    """

    workers: int
    folder: Path | None
    gpus: int
    connected: bool = False
    _actors: list["_Actor"] = field(default_factory=list)
    _token: str = field(default_factory=lambda: uuid.uuid4().hex)

    processes_here = 0  # what has room for them is for the cluster to know

    @property
    def shared(self) -> bool:
        """Whether there is a folder that every node sees."""
        return self.folder is not None

    def run(self, tasks: Iterator[Task], *, on_done: OnDone, on_failed: OnFailed) -> None:
        """As of `Engine`."""
        threads = worker.pin_threads()
        loaded.release()  # a worker may be on this machine
        if not self._actors:
            new = [_Actor(self, threads) for _ in range(self.workers)]
            self._actors.extend(new)
        try:
            share(self._actors, tasks, on_done=on_done, on_failed=on_failed, died=DIED)
        except Exception:
            raise
        except BaseException:  # Ctrl-C: wait for nothing
            self.close()
            raise

    def close(self) -> None:
        """End the workers, and the connection if it is of this engine."""
        for actor in self._actors:
            actor.close()
        self._actors.clear()
        if self.folder:
            _mark(self.folder).unlink(missing_ok=True)
        if self.connected:
            import ray

            ray.shutdown()

    def mark(self) -> tuple[Path, str] | None:
        """A file by which a node can tell that it sees the results folder, and what it says."""
        if self.folder is None:
            return None
        place = _mark(self.folder).absolute()
        with on_disk(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(self._token)
        return place, self._token


def connect(workers: int | None, *, folder: Path | None, device: str) -> Ray:
    """The cluster that RAY_ADDRESS names or that runs here, or one of this machine alone.

    The engine is to be closed, or its workers keep their place in the cluster.

    Args:
        workers: None for as many as the cluster has GPUs, or processors where it has none.
        device: "cpu" or "cuda".
    Raises:
        UsageError: Ray is not installed, or the cluster has no GPU.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UsageError(
            "Ray is not installed", place="--engine ray", fix="pip install 'skipdit[ray]'"
        ) from None
    from ray._private import worker as printing

    # it tells on stdout, where the table is to stand, all that it knows of a node that died
    printing.print_to_stdstream = lambda *given, **how: None
    if connected := not ray.is_initialized():
        begin = functools.partial(ray.init, log_to_driver=False, logging_level=logging.ERROR)
        try:
            begin(address="auto")
        except ConnectionError:
            begin(address="local", include_dashboard=False)
    resources = ray.cluster_resources()
    gpus = 1 if device == "cuda" else 0
    there = int(resources.get("GPU" if gpus else "CPU", 0))
    if there < 1:
        if connected:
            ray.shutdown()
        raise UsageError(
            f"the Ray cluster has no {'GPU' if gpus else 'processor'}",
            place="--engine ray",
            fix="start nodes that have one (`ray start --address=HEAD:6379`)",
        )
    return Ray(workers or there, folder, gpus, connected)


class _Actor:
    """A worker of the cluster."""

    def __init__(self, engine: Ray, threads: int) -> None:
        self._engine, self._threads = engine, threads
        self._handle: Any = None

    def start(self) -> "Future[object]":
        import ray

        self.close()
        kept = {name: value for name, value in os.environ.items() if name.startswith("SKIPDIT_")}
        made = ray.remote(_Worker).options(
            num_cpus=1,
            num_gpus=self._engine.gpus,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": kept} if kept else None,
        )
        self._handle = made.remote(self._threads, versions(), os.getcwd(), self._engine.mark())
        return _future(self._handle.ready.remote())

    def submit(self, number: int, task: Task | None) -> "Future[list[Ended]]":
        return _future(self._handle.work_on.remote(number, task))

    def died(self, error: BaseException) -> bool:
        from ray.exceptions import RayError

        return isinstance(error, RayError)

    def close(self) -> None:
        if self._handle is not None:
            import ray

            if ray.is_initialized():  # it would begin a cluster of its own to kill something in
                with suppress(ray.exceptions.RayError, ValueError):  # it is no more
                    ray.kill(self._handle)
            self._handle = None


def _future(asked: Any) -> "Future[Any]":
    """What a worker is asked for; what its process raised is raised as it is."""
    from ray.exceptions import RayTaskError

    told: Future[Any] = Future()

    def tell(answer: "Future[Any]") -> None:
        error = answer.exception()
        if error is None:
            told.set_result(answer.result())
        elif not isinstance(error, RayTaskError):
            told.set_exception(error)
        elif isinstance(cause := error.cause, SkipditError):
            told.set_exception(cause)
        else:
            problem = f"a worker cannot begin: {type(cause).__name__}: {cause}"
            fix = "install the same packages on every node"
            told.set_exception(SkipditError(problem, place="--engine ray", fix=fix))

    asked.future().add_done_callback(tell)
    return told


class _Worker:
    """What an actor is, in its own process."""

    def __init__(
        self, threads: int, theirs: dict[str, Any], folder: str, mark: tuple[Path, str] | None
    ) -> None:
        self._given = threads, theirs, folder, mark

    def ready(self) -> None:
        """Begin; SkipditError where this node would not make what the driver's would."""
        threads, theirs, folder, mark = self._given
        here = versions()
        for name, wanted in theirs.items():
            if here[name] != wanted:
                raise SkipditError(
                    f"it has {name} {here[name]}, and the driver {wanted}: samples would differ",
                    place=f"node {socket.gethostname()}",
                    fix="install the same versions on every node",
                )
        if Path(folder).is_dir():
            os.chdir(folder)  # paths may be relative to it
        if mark is not None and not (mark[0].is_file() and mark[0].read_text() == mark[1]):
            raise SkipditError(
                f"it does not see {mark[0].parent}",
                place=f"node {socket.gethostname()}",
                fix="name a folder that all nodes share with --results, or --no-shared-folder",
            )
        worker.begin(threads, None)

    def work_on(self, number: int, task: Task | None) -> list[Ended]:
        """As of `worker`."""
        return worker.work_on(number, task)


def versions() -> dict[str, Any]:
    """What samples depend on."""
    made = provenance.collect()
    return {name: made[name] for name in ("skipdit", *provenance.PACKAGES)}


def _mark(folder: Path) -> Path:
    return folder / ".seen-by-nodes"
