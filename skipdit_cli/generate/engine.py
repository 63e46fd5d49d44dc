"""Where the batches of a run are computed: in this process, or in several on this machine.

Every process computes with the same number of threads. The order in which a sum is formed, and with
it the last bits of a float, follows the number of threads an operation is split over; with one
number everywhere, a sample is bit for bit the same whichever process computed it.
"""

import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection

from skipdit_cli.errors import SkipditError, UsageError, print_warnings
from skipdit_cli.generate.behind import Batch, Behind, Work
from skipdit_cli.generate.memory import memory_checked

OnDone = Callable[[Batch], object]
Told = tuple[list[Batch], BaseException | None]  # which batches are finished, and what went wrong

# Of a worker process alone.
_number: int | None = None  # from 0, among the workers
_finished: deque[Batch] = deque()  # and not told of yet
_behind: Behind | None = None


def run_batches(
    work: Work,
    batches: Sequence[Batch],
    *,
    workers: int = 1,
    on_done: OnDone | None = None,
) -> None:
    """Call `work` on every batch of sample indices.

    `work` computes a batch and returns what is left of it, sample by sample; that is done in a
    thread beside the next batch (`behind.py`). With more than one worker it travels to freshly
    started Python processes, once per batch: it is a module-level function or a
    `functools.partial` of one over small arguments, and keeps its model in a module-level cache, so
    that each process loads the model once.

    After a failure no further batch is begun, those that were begun are finished, and the first
    error is raised. On Ctrl-C the sample that is being written is finished; the workers end at
    once then, as they do when this process is killed.

    Args:
        work: computes the samples of one batch; returns an iterator whose steps store them, or None
            where nothing is left.
        batches: of sample indices.
        workers: number of processes; 1 computes here, in order. Each uses as many threads as torch
            does here, so set OMP_NUM_THREADS lower to share the cores without changing that.
        on_done: called in this process with each batch that was finished. A worker tells of a
            batch when it has computed the next one, or when there is none.

    Raises:
        UsageError: fewer than one worker.
        SkipditError: a worker process died. Errors of `work` come through as they are.
    """
    if workers < 1:
        raise UsageError(
            f"the number of workers cannot be {workers}", place="workers", fix="take 1 or more"
        )
    threads = pin_threads()
    workers = min(workers, len(batches))
    if workers <= 1:
        with Behind(on_done or (lambda batch: None)) as behind:
            for batch in batches:
                behind.run(work, batch)
        return
    context = get_context("spawn")
    lifeline, held = context.Pipe(duplex=False)  # `held` never leaves this process
    with lifeline, held, ExitStack() as stack:
        pools = [
            stack.enter_context(
                ProcessPoolExecutor(
                    1,
                    mp_context=context,
                    initializer=_begin,
                    initargs=(lifeline, threads, number),
                )
            )
            for number in range(workers)
        ]
        try:
            _run(pools, work, batches, on_done=on_done or (lambda batch: None))
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
    pools: Sequence[Executor], work: Work, batches: Sequence[Batch], *, on_done: OnDone
) -> None:
    """Give every worker (a pool of one) a batch whenever it has none, and wait for all in the end.

    One batch each: what is queued in a pool cannot be called back.
    """
    queue = iter(batches)
    running: dict[Future[Told], Executor | None] = {}
    failure: BaseException | None = None

    def go_on(pool: Executor) -> None:
        batch = next(queue, None) if failure is None else None
        running[pool.submit(_told, work, batch)] = pool if batch is not None else None

    for pool in pools:
        go_on(pool)
    while running:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            free, error = running.pop(future), future.exception()
            if error is None:
                finished, error = future.result()
                for batch in finished:
                    on_done(batch)
            else:
                free = None  # it is no more
            failure = failure or error
            if free is not None:
                go_on(free)
    if failure is not None:
        raise failure


def _told(work: Work, batch: Batch | None) -> Told:
    """Work on a batch in a worker, or with None finish all that was begun.

    Its errors travel to its parent whatever they hold.
    """
    assert _behind is not None
    failure: BaseException | None = None
    try:
        if batch is None:
            _behind.finish()
        else:
            with memory_checked(len(batch)):
                _behind.run(work, batch)
    except Exception as error:
        try:
            failure = pickle.loads(pickle.dumps(error))
        except Exception:
            failure = RuntimeError(f"{type(error).__name__}: {error}")
    return [_finished.popleft() for _ in range(len(_finished))], failure


def own_device(name: str) -> str:
    """The device of this process: `cuda` in a worker is one GPU of several, in turn."""
    if name != "cuda" or _number is None:
        return name
    import torch

    return f"cuda:{_number % torch.cuda.device_count()}"


def _begin(lifeline: Connection, threads: int, number: int) -> None:
    """Prepare a worker: it leaves Ctrl-C to its parent and ends when the parent does."""
    global _number, _behind
    _number, _behind = number, Behind(_finished.append)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    print_warnings()
    pin_threads(threads)


def _end_with(lifeline: Connection) -> None:
    with suppress(OSError):
        lifeline.poll(None)  # nothing is ever sent: it returns when the other end is closed
    os._exit(1)


def pin_threads(threads: int | None = None) -> int:
    """Fix the number of torch's threads, here and now, and return it.

    Asking for the number that is set already is not idle: it also keeps MKL from taking fewer
    threads for small products, as it otherwise may in this process and not in another.
    """
    import torch

    threads = threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    return threads
