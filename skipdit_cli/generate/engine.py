"""Where tasks run: in this process, in several of this machine, or on many machines.

An engine is given tasks one after the other, as it has a worker that is free, and tells of each
that ended. A worker that dies takes nothing along: its tasks are given to others, and the third
time a task has cost a worker its life it counts as failed.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from skipdit_cli.errors import SkipditError, warn
from skipdit_cli.generate.behind import Batch, Work
from skipdit_cli.generate.worker import Ended, OnDone, OnFailed, Task

ATTEMPTS = 3  # workers that a task may cost
PATIENCE = 120  # seconds until it is told that no worker starts


class Engine(Protocol):
    """Where tasks run."""

    @property
    def workers(self) -> int:
        """How many processes work side by side."""
        ...

    @property
    def processes_here(self) -> int:
        """How many of them are on this machine, and share its memory."""
        ...

    @property
    def shared(self) -> bool:
        """Whether the workers write into the results folder; else what they make is sent here."""
        ...

    def run(self, tasks: Iterator[Task], *, on_done: OnDone, on_failed: OnFailed) -> None:
        """Run tasks, taking the next one when a worker is free.

        Args:
            tasks: may look at what was done when it is asked for the next.
            on_done, on_failed: called in this process, and one at a time. Once `on_failed` has
                raised no further task is begun; what was begun is finished, and it is raised then.
        """
        ...


class Worker(Protocol):
    """A process that works on one task at a time."""

    def start(self) -> "Future[object]":
        """Start it, or a new one in place of one that has died; done when it may be given tasks."""
        ...

    def submit(self, number: int, task: Task | None) -> "Future[list[Ended]]":
        """As `worker.work_on`."""
        ...

    def died(self, error: BaseException) -> bool:
        """Whether what a future raised says that the process is no more."""
        ...


def run_batches(
    work: Work,
    batches: Sequence[Batch],
    *,
    engine: Engine,
    of: str = "",
    on_done: "OnBatch | None" = None,
) -> None:
    """Call `work` on every batch; the first error ends it.

    Args:
        work, of: as of `Task`.
        on_done: called in this process with each batch that was finished.
    Raises:
        Exception: of `work`.
        SkipditError: a batch has cost several workers their lives.
    """
    run_tasks(
        [Task(work, batch, of) for batch in batches],
        engine=engine,
        on_done=lambda task, given: on_done and on_done(task.batch),
    )


def run_tasks(tasks: Sequence[Task], *, engine: Engine, on_done: OnDone) -> None:
    """Run tasks; the first error ends it, as of `run_batches`."""

    def failed(task: Task, error: BaseException) -> None:
        raise error

    engine.run(iter(tasks), on_done=on_done, on_failed=failed)


class OnBatch(Protocol):
    """Called with each batch that was finished."""

    def __call__(self, batch: Batch, /) -> object: ...


@dataclass(frozen=True)
class _Begun:
    """A task that a worker was given."""

    number: int
    task: Task


def share(
    workers: Sequence[Worker],
    tasks: Iterator[Task],
    *,
    on_done: OnDone,
    on_failed: OnFailed,
    died: Callable[[], SkipditError],
) -> None:
    """Give every worker a task whenever it has none, and wait for all in the end.

    One task each: what is queued in a worker cannot be called back.

    Args:
        died: gives the error of a task that has cost several workers their lives.
    """
    _Sharing(workers, tasks, on_done=on_done, on_failed=on_failed, died=died).run()


class _Sharing:
    def __init__(
        self,
        workers: Sequence[Worker],
        tasks: Iterator[Task],
        *,
        on_done: OnDone,
        on_failed: OnFailed,
        died: Callable[[], SkipditError],
    ) -> None:
        self._workers = workers
        self._tasks = (_Begun(number, task) for number, task in enumerate(tasks))
        self._on_done, self._on_failed, self._died = on_done, on_failed, died
        self._again: deque[_Begun] = deque()  # what dead workers had
        self._cost: Counter[int] = Counter()  # workers, by the task's number
        self._begun: list[dict[int, Task]] = [{} for _ in workers]  # and not finished
        self._running: dict[Future[Any], int] = {}  # the worker, by what it is asked for
        self._starting: dict[Future[Any], int] = {}
        self._in_vain: Counter[int] = Counter()  # starts
        self._failure: BaseException | None = None

    def run(self) -> None:
        for place, worker in enumerate(self._workers):
            self._starting[worker.start()] = place
        while self._running or (self._starting and self._more()):
            awaited = [*self._running, *self._starting]
            done = wait(awaited, timeout=PATIENCE, return_when=FIRST_COMPLETED).done
            if not done and not self._running:
                warn(
                    f"none of {len(self._workers)} workers has started within {PATIENCE} s",
                    fix="they are waited for; see that there is room for them",
                )
            for future in done:
                if future in self._running:
                    self._ended(self._running.pop(future), future)
                else:
                    self._started(self._starting.pop(future), future)
            busy = {*self._running.values(), *self._starting.values()}
            for place in range(len(self._workers)):
                if place not in busy:
                    self._give(place)
        if self._failure is not None:
            raise self._failure

    def _more(self) -> bool:
        """Whether there is a task that nobody has begun."""
        if begun := self._next():
            self._again.appendleft(begun)
        return begun is not None

    def _started(self, place: int, future: "Future[object]") -> None:
        if (error := future.exception()) is None:
            self._in_vain[place] = 0
            return
        self._in_vain[place] += 1
        if not self._workers[place].died(error):
            self._failure = self._failure or error
        elif self._in_vain[place] < ATTEMPTS:
            self._starting[self._workers[place].start()] = place
        else:
            *_, words = str(error).strip().splitlines() or [type(error).__name__]
            failure = SkipditError(
                f"a worker does not start: {words}",
                fix="see that skipdit and what it needs are installed alike on all machines",
            )
            self._failure = self._failure or failure

    def _next(self) -> _Begun | None:
        if self._failure is not None:
            return None
        if self._again:
            return self._again.popleft()
        try:
            return next(self._tasks, None)
        except Exception as error:
            self._failure = error
            return None

    def _give(self, place: int) -> None:
        """The next task for a worker, or word to finish what it has begun, if there is any."""
        given = self._next()
        if given is None and not self._begun[place]:
            return
        if given is not None:
            self._begun[place][given.number] = given.task
        number, task = (given.number, given.task) if given else (-1, None)
        self._running[self._workers[place].submit(number, task)] = place

    def _ended(self, place: int, future: "Future[list[Ended]]") -> None:
        if error := future.exception():
            if self._workers[place].died(error):
                self._lost(place, error)
            else:  # the task cannot even travel
                self._failure = self._failure or error
                self._begun[place].clear()
            return
        for ended in future.result():
            task = self._begun[place].pop(ended.number)
            if ended.error is not None:
                self._fail(task, ended.error)
            else:
                self._on_done(task, ended.given)

    def _lost(self, place: int, error: BaseException) -> None:
        """A worker has died: others get what it had begun, in their old order."""
        had, self._begun[place] = self._begun[place], {}
        for number, task in sorted(had.items(), reverse=True):
            self._cost[number] += 1
            if self._cost[number] < ATTEMPTS:
                self._again.appendleft(_Begun(number, task))
                continue
            failure = self._died()
            failure.__cause__ = error
            self._fail(task, failure)
        self._starting[self._workers[place].start()] = place

    def _fail(self, task: Task, error: BaseException) -> None:
        try:
            self._on_failed(task, error)
        except Exception as raised:
            self._failure = self._failure or raised
