"""What is left of a batch once it is computed, done in a thread beside the next one.

Of samples that is to encode, hash and write them, which C libraries do without Python's lock and
without the GPU. Decoding is not among it: it needs the same device as sampling, and on a CPU two
threads of torch would take the cores from one another.
"""

import threading
from collections.abc import Callable, Iterable
from queue import Queue
from types import TracebackType
from typing import Self

Batch = list[int]
Work = Callable[[Batch], Iterable[object] | None]
WAITING = 1  # batches in memory beside the one that is computed and the one that is written


class Behind:
    """A thread that does what is left of batches, one after the other.

    It is done in steps, each of which leaves a finished sample. A block that ends well, or by an
    error, waits until all is done; Ctrl-C waits for the step at hand alone.

    Args:
        on_done: called with each batch of which all is done, mostly in the thread.
    """

    def __init__(self, on_done: Callable[[Batch], object]) -> None:
        self._on_done = on_done
        self._queue: Queue[tuple[Batch, Iterable[object]] | None] = Queue(WAITING)
        self._failure: BaseException | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def run(self, work: Work, batch: Batch) -> None:
        """Compute a batch, and leave the rest of it to the thread, which may lag a little.

        Args:
            work: returns the steps that are left, or None where there are none.
        Raises:
            Exception: of `work`, or of a step of an earlier batch; nothing is computed then.
        """
        self._check()
        left = work(batch)
        if left is None:
            self._on_done(batch)
        else:
            self._queue.put((batch, left))

    def finish(self) -> None:
        """Wait until all is done; raise the first failure of a step."""
        self._queue.join()
        self._check()

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
        if error is None:
            self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _loop(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._do(*item)
            except BaseException as error:
                self._failure = self._failure or error
            finally:
                item = None  # its pixels are not kept while the next batch is waited for
                self._queue.task_done()

    def _do(self, batch: Batch, left: Iterable[object]) -> None:
        if self._stopped.is_set():
            return
        for _ in left:
            if self._stopped.is_set():
                return
        self._on_done(batch)
