"""Generate: the samples of Runs, computed and stored.

The batches of several runs are worked on as one: none waits for the last batch of the run before.
Each run is held while it is made, so that several processes may share a results folder: what one
of them holds the others leave until the end, and take its samples then.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import SkipditError, UsageError, of_run, warn
from skipdit_cli.generate import batch, conditioning, loaded, memory
from skipdit_cli.generate.behind import Work
from skipdit_cli.generate.local import Local
from skipdit_cli.generate.options import Progress, Stage, silent
from skipdit_cli.generate.worker import Task, device_here
from skipdit_cli.precision import products
from skipdit_cli.run import Run
from skipdit_cli.storage import trajectory
from skipdit_cli.storage.disk import check_writable
from skipdit_cli.storage.lock import HeldError
from skipdit_cli.storage.store import Store, open_store

if TYPE_CHECKING:
    from skipdit_cli.generate.engine import Engine

WAITS = 0.5  # seconds between two looks at what another process makes
ENCODED = "take a precision of 16 bits, or a GPU with more memory: what is encoded is kept"


def generate(
    run: Run,
    root: Path,
    *,
    device: str = "cpu",
    engine: "Engine | None" = None,
    weights_path: Path | None = None,
    offload: str = "",
    previews: bool = True,
    stage: Stage = silent,
) -> Store:
    """The samples of one run; as `generate_all`.

    Returns:
        The complete store.
    Raises:
        SkipditError: what went wrong.
    """
    failures = generate_all(
        [run],
        root,
        device=device,
        engine=engine,
        weights_path=weights_path,
        offload=offload,
        previews=previews,
        stage=stage,
    )
    for failure in failures.values():
        raise failure
    return open_store(root, run)


def generate_all(
    runs: Sequence[Run],
    root: Path,
    *,
    device: str = "cpu",
    engine: "Engine | None" = None,
    weights_path: Path | None = None,
    offload: str = "",
    previews: bool = True,
    stage: Stage = silent,
) -> dict[str, SkipditError]:
    """Encode the prompts of Runs, if they have any, and compute the samples that they still lack.

    A run that another process works on is waited for, at the end.

    Args:
        runs: in the order in which they are made.
        root: results folder.
        engine: where batches are computed; in this process by default.
        offload: what is kept off the GPU while it is not needed, as `Options` has it.
        previews: make an mp4 of every clip, to look at.
        weights_path: a checkpoint file instead of the known place.
        stage: opens a progress display: of prompts that are encoded, of samples that are finished.
    Returns:
        Why runs failed, by key; the others are complete.
    Raises:
        MissingAssetError: the weights are not here.
        StoreError: the disk.
        UsageError: a batch does not fit in memory, or the weights are not those of the run.
    """
    engine = engine or Local()
    for run in runs:
        local.require(run.card, path=weights_path)
        if run.weights not in ("", here := local.fingerprint(run.card, path=weights_path)):
            raise UsageError(
                f"run {run.key} is of the weights {run.weights} and these are {here}",
                place=str(weights_path or run.model),
                fix="put those back, or ask for its runs again, in a study of another --name",
            )
        memory.require(run, device=device, workers=engine.processes_here, offload=offload)
        if run.caution:
            warn(run.caution, place=f"{run.cache.short} on {run.model} with {run.sampler.name}")
    check_writable(root)
    how = batch.How(device, weights_path, offload, previews)

    def task(run: Run, wanted: list[int]) -> Task:
        work: Work = functools.partial(batch.make, run, root=root, how=how)
        if not engine.shared:
            known = conditioning.files(run, batch.whole(run, wanted), root=root)
            work = functools.partial(batch.make_elsewhere, run, embeddings=known, how=how)
        return Task(work, wanted, of=run.key)

    made = _Making(
        [*{run.key: run for run in runs}.values()],
        root,
        encode=functools.partial(_encode, root=root, device=device_here(device), stage=stage),
        task=task,
        stage=stage,
    )
    return made.all(engine)


def _encode(run: Run, *, root: Path, device: str, stage: Stage) -> None:
    """Encode the prompts of a run that are not encoded yet."""
    pending = conditioning.pending(run, root)
    if pending:
        loaded.release()  # a text encoder may be larger than the denoiser
    encoding = stage(f"encoding the prompts of {run.model}") if pending else nullcontext()
    with encoding as update, memory.told("while prompts are encoded", fix=ENCODED):
        conditioning.prepare(run, root, device=device, progress=update)


@dataclass
class _Held:
    """A run that is being made.

    Attributes:
        left: batches that have not ended.
        failure: why one of them failed.
    """

    store: Store
    held: ExitStack
    left: int = 0
    failure: SkipditError | None = None


class _Making:
    """Runs that are made together."""

    def __init__(
        self,
        runs: list[Run],
        root: Path,
        *,
        encode: Callable[[Run], None],
        task: Callable[[Run, list[int]], Task],
        stage: Stage,
    ) -> None:
        self._runs, self._left, self._stage = runs, [*runs], stage
        self._encode, self._task = encode, task
        self._held: dict[str, _Held] = {}
        self._encoded: set[str] = set()  # runs whose prompts are
        self._counting = threading.Lock()  # what was stored is told of by another thread
        self._failures: dict[str, SkipditError] = {}
        self._update: Progress = lambda done, total: None
        self._done = 0  # samples
        self._stores = {run.key: open_store(root, run) for run in runs}
        names = " and ".join(dict.fromkeys(run.model for run in runs))
        self._what = f"{names}, {len(runs)} runs"
        if len(runs) == 1:
            self._what = f"{names}, {runs[0].cache.short}"

    def all(self, engine: "Engine") -> dict[str, SkipditError]:
        """Make them; why runs failed, by key."""
        for run in self._left:
            if self._entered(run) < run.num_samples:
                self._encode(run)  # before workers take the memory
                self._encoded.add(run.key)
        while self._left:
            try:
                with self._stage(f"sampling {self._what}") as self._update:
                    self._done = sum(map(self._entered, self._runs))
                    engine.run(self._tasks(), on_done=self._finished, on_failed=self._failed)
                    self._close()
            finally:
                for held in self._held.values():
                    held.held.close()
                self._held.clear()
            if self._left:
                self._wait_for(self._left[0])
        return self._failures

    def _entered(self, run: Run) -> int:
        return len(self._stores[run.key].entered() & frozenset(range(run.num_samples)))

    def _count(self, more: int) -> None:
        self._done += more
        self._update(self._done, sum(run.num_samples for run in self._runs))

    def _there(self, run: Run) -> bool:
        """Whether another process has made all of a run that it still holds."""
        store = self._stores[run.key]
        return (
            self._entered(run) == run.num_samples
            and not store.missing(range(run.num_samples))
            and trajectory.read_trajectory(store) is not None
        )

    def _wait_for(self, run: Run) -> None:
        """Wait until no other process holds a run, or all that is wanted of it is there."""
        store = self._stores[run.key]
        with ExitStack() as showing:
            update: Progress | None = None
            while not self._there(run):
                try:
                    with store.lock():
                        return
                except HeldError as held:
                    if update is None:
                        update = showing.enter_context(self._stage(f"waiting: {held.problem}"))
                update(self._entered(run), run.num_samples)
                time.sleep(WAITS)

    def _tasks(self) -> Iterator[Task]:
        """The batches of the runs that no other process holds, opened as they are come to."""
        for run in [*self._left]:
            self._close()
            try:
                batches = self._open(run)
            except HeldError as held:
                if self._there(run):
                    self._left.remove(run)
                elif len(self._left) > 1:
                    warn(held.problem, place=held.place, fix="the other runs are made first")
                continue
            self._left.remove(run)
            for wanted in batches:
                opened = self._held[run.key]
                if not opened.failure:
                    yield self._task(run, wanted)
                    continue
                with self._counting:
                    opened.left -= 1
        self._close()

    def _open(self, run: Run) -> list[list[int]]:
        """Hold a run, and give its batches of samples that are missing.

        Raises:
            HeldError: another process holds it.
        """
        store, holding = self._stores[run.key], ExitStack()
        entered = self._entered(run)
        with products(run.precision):  # which run.json tells of
            holding.enter_context(store.lock())
        self._held[run.key] = opened = _Held(store, holding)
        missing = store.missing(range(run.num_samples))
        if corrupt := list(store.corrupt):
            warn(
                f"{len(corrupt)} of {run.num_samples} samples are damaged, first {corrupt[0]}",
                place=str(store.path),
                fix="they are made again",
            )
        batches: dict[int, list[int]] = {}
        if trajectory.read_trajectory(store) is None:
            batches[0] = []  # computed again, though none of its samples may be missing
        for index in missing:
            batches.setdefault(index // run.batch_size, []).append(index)
        there = set(range(run.num_samples)) - set(missing)
        store.enter({index: conditioning.named(run, index) for index in there})
        if batches and run.key not in self._encoded:
            self._encode(run)
        opened.left = len(batches)
        with self._counting:
            self._count(len(there) - entered)
        if not batches:  # all of it was just looked at
            with self._held.pop(run.key).held:
                return []
        return list(batches.values())

    def _finished(self, task: Task, given: list[Any]) -> None:
        opened = self._held[task.of]
        for files in given:  # by a worker that does not see the folder
            for name, data in files:
                opened.store.put(name, data)
        opened.store.collect(task.batch)
        with self._counting:
            opened.left -= 1
            self._count(len(task.batch))

    def _failed(self, task: Task, error: BaseException) -> None:
        if not isinstance(error, SkipditError) or not of_run(error):
            raise error
        opened = self._held[task.of]
        with self._counting:
            opened.failure = opened.failure or error
            opened.left -= 1

    def _close(self) -> None:
        """Let go of the runs of which no batch is left, and find out whether they are complete."""
        for key, opened in [*self._held.items()]:
            if opened.left:
                continue
            with opened.held:
                del self._held[key]
                if opened.failure:
                    self._failures[key] = opened.failure
                else:
                    opened.store.require(opened.store.run.num_samples)
