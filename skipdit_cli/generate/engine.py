"""Where the batches of a run are computed: in this process, or in several on this machine.

Every process computes with the same number of threads. The order in which a sum is formed, and with
it the last bits of a float, follows the number of threads an operation is split over; with one
number everywhere, a sample is bit for bit the same whichever process computed it.
"""

import os
import pickle
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection

from skipdit_cli.errors import SkipditError, UsageError, print_warnings
from skipdit_cli.generate.memory import memory_checked

Batch = list[int]
OnDone = Callable[[Batch], object]


def run_batches(
    work: Callable[[Batch], object],
    batches: Sequence[Batch],
    *,
    workers: int = 1,
    on_done: OnDone | None = None,
) -> None:
    """Call `work` on every batch of sample indices.

    `work` stores what it computes; its return value is dropped. With more than one worker it
    travels to freshly started Python processes, once per batch: it is a module-level function or a
    `functools.partial` of one over small arguments, and keeps its model in a module-level cache, so
    that each process loads the model once.

    After a failure no further batch is begun, those being computed are finished, and the first
    error is raised. On Ctrl-C, and when this process is killed, the workers end at once.

    Args:
        work: computes and stores the samples of one batch.
        batches: of sample indices.
        workers: number of processes; 1 computes here, in order. Each uses as many threads as torch
            does here, so set OMP_NUM_THREADS lower to share the cores without changing that.
        on_done: called in this process with each batch that was finished.

    Raises:
        UsageError: fewer than one worker.
        SkipditError: a worker process died. Errors of `work` come through as they are.
    """
    if workers < 1:
        raise UsageError(
            f"the number of workers cannot be {workers}", place="workers", fix="take 1 or more"
        )
    threads = _pin_threads()
    workers = min(workers, len(batches))
    if workers <= 1:
        for batch in batches:
            work(batch)
            if on_done:
                on_done(batch)
        return
    context = get_context("spawn")
    lifeline, held = context.Pipe(duplex=False)  # `held` never leaves this process
    with (
        lifeline,
        held,
        ProcessPoolExecutor(
            workers, mp_context=context, initializer=_begin, initargs=(lifeline, threads)
        ) as pool,
    ):
        try:
            _run(pool, work, batches, workers=workers, on_done=on_done)
        except BrokenProcessPool as error:
            raise SkipditError(
                "a worker process died: killed, or out of memory",
                fix="run the same command again: it continues; fewer workers take less memory",
            ) from error
        except Exception:
            raise
        except BaseException:  # Ctrl-C: wait for nothing
            held.close()
            raise


def _run(
    pool: Executor,
    work: Callable[[Batch], object],
    batches: Sequence[Batch],
    *,
    workers: int,
    on_done: OnDone | None,
) -> None:
    queue = iter(batches)
    running: dict[Future, Batch] = {}
    failure: BaseException | None = None
    while True:
        # Never more than there are workers: what is queued in the pool cannot be called back.
        if failure is None:
            for batch in islice(queue, workers - len(running)):
                running[pool.submit(_told, work, batch)] = batch
        if not running:
            break
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            batch, error = running.pop(future), future.exception()
            failure = failure or error
            if error is None and on_done:
                on_done(batch)
    if failure is not None:
        raise failure


def _told(work: Callable[[Batch], object], batch: Batch) -> None:
    """Work on a batch in a worker, whose errors travel to its parent whatever they hold."""
    try:
        with memory_checked(len(batch)):
            work(batch)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise


def _begin(lifeline: Connection, threads: int) -> None:
    """Prepare a worker: it leaves Ctrl-C to its parent and ends when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    print_warnings()
    _pin_threads(threads)


def _end_with(lifeline: Connection) -> None:
    with suppress(OSError):
        lifeline.poll(None)  # nothing is ever sent: it returns when the other end is closed
    os._exit(1)


def _pin_threads(threads: int | None = None) -> int:
    """Fix the number of torch's threads, here and now, and return it.

    Asking for the number that is set already is not idle: it also keeps MKL from taking fewer
    threads for small products, as it otherwise may in this process and not in another.
    """
    import torch

    threads = threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    return threads
