"""What is left of a batch once it is computed, done in a thread beside the next one.

Of samples that is to encode, hash and write them, which C libraries do without Python's lock and
without the GPU. Decoding is not among it: it needs the same device as sampling, and on a CPU two
threads of torch would take the cores from one another.
"""

import threading
from collections.abc import Callable, Iterable
from queue import Queue
from types import TracebackType
from typing import Generic, Self, TypeVar

Batch = list[int]
Work = Callable[[Batch], Iterable[object] | None]
WAITING = 1  # batches in memory beside the one that is computed and the one that is written

T = TypeVar("T")
OnEnd = Callable[[T, list[object], BaseException | None], object]


class Behind(Generic[T]):
    """A thread that does what is left of tasks, one after the other.

    It is done in steps, each of which leaves a finished file. A block that ends well, or by an
    error, waits until all is done; Ctrl-C waits for the step at hand alone.

    Args:
        on_end: called once with each task, what its steps gave that is not None, and the error that
            it met or None; where all went well, mostly in the thread.
    """

    def __init__(self, on_end: OnEnd[T]) -> None:
        self._on_end = on_end
        self._queue: Queue[tuple[T, Iterable[object]] | None] = Queue(WAITING)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def run(self, task: T, work: Work, batch: Batch) -> None:
        """Compute the batch of a task, and leave the rest of it to the thread, which may lag.

        Args:
            work: returns the steps that are left, or None where there are none.
        """
        try:
            left = work(batch)
        except Exception as error:
            self._on_end(task, [], error)
            return
        if left is None:
            self._on_end(task, [], None)
        else:
            self._queue.put((task, left))

    def finish(self) -> None:
        """Wait until all is done."""
        self._queue.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, Exception):
                self._queue.join()
        finally:
            self._stopped.set()
            self._queue.put(None)
            self._thread.join()

    def _loop(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._do(*item)
            finally:
                item = None  # its pixels are not kept while the next batch is waited for
                self._queue.task_done()

    def _do(self, task: T, left: Iterable[object]) -> None:
        given: list[object] = []
        failure: BaseException | None = None
        try:
            for each in left:
                if self._stopped.is_set():
                    return
                if each is not None:
                    given.append(each)
        except BaseException as error:
            failure = error
        if not self._stopped.is_set():
            self._on_end(task, given, failure)
