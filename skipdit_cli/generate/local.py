"""The engine of one machine: this process, or several that it starts."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from multiprocessing import get_context
from multiprocessing.connection import Connection

from skipdit_cli.errors import SkipditError, UsageError, print_warnings
from skipdit_cli.generate import loaded, worker
from skipdit_cli.generate.behind import Behind
from skipdit_cli.generate.engine import share
from skipdit_cli.generate.worker import Ended, OnDone, OnFailed, Task

DIED = partial(
    SkipditError,
    "a worker process died: killed, or out of memory",
    fix="run the same command again: it continues; fewer workers take less memory",
)


@dataclass(frozen=True)
class Local:
    """Workers on this machine.

    On Ctrl-C the file that is being written is finished; the workers end at once then, as they do
    when this process is killed.

    Args:
        workers: 1 computes in this process, in order; of more, each is a freshly started process.
            Each uses as many threads as torch does here, so set OMP_NUM_THREADS lower to share the
            cores without changing that.
    Raises:
        UsageError: fewer than one worker.
    """

    workers: int = 1
    shared = True

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(
                f"the number of workers cannot be {self.workers}",
                place="workers",
                fix="take 1 or more",
            )

    @property
    def processes_here(self) -> int:
        """All of them."""
        return self.workers

    def run(self, tasks: Iterator[Task], *, on_done: OnDone, on_failed: OnFailed) -> None:
        """As of `Engine`."""
        threads = worker.pin_threads()
        first = list(islice(tasks, self.workers))
        tasks = chain(first, tasks)
        if len(first) <= 1:
            _run_here(tasks, on_done=on_done, on_failed=on_failed)
            return
        loaded.release()  # the workers have their own, on the same GPUs
        context = get_context("spawn")
        lifeline, held = context.Pipe(duplex=False)  # `held` never leaves this process
        with lifeline, held, ExitStack() as stack:
            workers = [_Process(number, threads, lifeline) for number in range(len(first))]
            for each in workers:
                stack.callback(each.close)
            try:
                share(workers, tasks, on_done=on_done, on_failed=on_failed, died=DIED)
            except Exception:
                raise
            except BaseException:  # Ctrl-C: wait for nothing
                held.close()
                raise


def _run_here(tasks: Iterator[Task], *, on_done: OnDone, on_failed: OnFailed) -> None:
    failed: list[tuple[Task, BaseException]] = []

    def ended(task: Task, given: list[object], error: BaseException | None) -> None:
        try:
            if error is None:
                on_done(task, given)
        except Exception as raised:
            error = raised
        if error is not None:
            failed.append((task, error))

    def check() -> None:
        while failed:
            task, error = failed.pop(0)
            if not isinstance(error, Exception):
                raise error
            on_failed(task, error)

    with Behind(ended) as behind:
        for task in tasks:
            behind.run(task, task.work, task.batch)
            check()
    check()


class _Process:
    """A pool of one process, which is all that can be told what it works on."""

    def __init__(self, number: int, threads: int, lifeline: Connection) -> None:
        self._begun_with = (lifeline, threads, number)
        self._pool: ProcessPoolExecutor | None = None

    def start(self) -> "Future[object]":
        self.close()
        self._pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_begin, initargs=self._begun_with
        )
        return self._pool.submit(os.getpid)

    def submit(self, number: int, task: Task | None) -> "Future[list[Ended]]":
        assert self._pool is not None
        return self._pool.submit(worker.work_on, number, task)

    def died(self, error: BaseException) -> bool:
        return isinstance(error, BrokenProcessPool)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _begin(lifeline: Connection, threads: int, number: int) -> None:
    """Prepare a worker: it leaves Ctrl-C to its parent and ends when the parent does.

    Threads that wait for one another leave the core to those of other workers: as they spin, which
    is the default, workers that share cores are several times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported, not before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    print_warnings()
    worker.begin(threads, number)


def _end_with(lifeline: Connection) -> None:
    with suppress(OSError):
        lifeline.poll(None)  # nothing is ever sent: it returns when the other end is closed
    os._exit(1)
