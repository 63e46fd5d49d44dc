"""What a worker is, wherever it runs: a process that is given tasks and keeps its networks.

Every process computes with the same number of threads. The order in which a sum is formed, and with
it the last bits of a float, follows the number of threads an operation is split over; with one
number everywhere, a sample is bit for bit the same whichever process computed it.
"""

import pickle
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from skipdit_cli.generate.behind import Batch, Behind, Work


@dataclass(frozen=True)
class Task:
    """A batch, and what computes it.

    Attributes:
        work: called with the batch; a module-level function or a `functools.partial` of one over
            small arguments, as it may travel. It keeps its model in a module-level cache, so that
            each process loads it once. It returns an iterator whose steps store what was made, or
            None where nothing is left to store; what a step gives that is not None travels to the
            process that asked.
        batch: numbers of what is made, of samples or of chunks.
        of: what the task belongs to, as a run's key.
    """

    work: Work
    batch: Batch
    of: str = ""


@dataclass(frozen=True)
class Ended:
    """A task that ended: its number, what its steps gave, and the error that it met or None."""

    number: int
    given: list[object] = field(default_factory=list)
    error: BaseException | None = None


class OnDone(Protocol):
    """Called in the process that asked, with each task that was finished and what it gave."""

    def __call__(self, task: Task, given: list[object], /) -> object: ...


class OnFailed(Protocol):
    """Called in the process that asked, with each task that failed; what it raises ends all."""

    def __call__(self, task: Task, error: BaseException, /) -> object: ...


# Of a worker process alone.
_number: int | None = None  # from 0, among those that share the GPUs that it sees
_ended: deque[Ended] = deque()  # and not told of yet
_behind: Behind[int] | None = None


def begin(threads: int, number: int | None) -> None:
    """Make this process a worker.

    Args:
        threads: of torch.
        number: of the worker, from 0, where several share the GPUs that they see.
    """
    global _number, _behind
    _number, _behind = number, Behind(_end)
    pin_threads(threads)


def work_on(number: int, task: Task | None) -> list[Ended]:
    """Compute a task, or with None finish all that was begun; returns what has ended since.

    What a task leaves to be stored is finished beside the next one.
    """
    assert _behind is not None
    if task is None:
        _behind.finish()
    else:
        _behind.run(number, task.work, task.batch)
    return [_ended.popleft() for _ in range(len(_ended))]


def _end(number: int, given: list[object], error: BaseException | None) -> None:
    """Keep what is to be told; an error travels whatever it holds."""
    if error is not None:
        try:
            error = pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
    _ended.append(Ended(number, given, error))


def own_device(name: str) -> str:
    """The device of this process: `cuda` in a worker is one GPU of several, in turn."""
    if name != "cuda" or _number is None:
        return name
    import torch

    return f"cuda:{_number % torch.cuda.device_count()}"


def device_here(name: str) -> str:
    """What the process that asks can use of a device that its workers have: itself, or "cpu"."""
    if name != "cuda":
        return name
    import torch

    return name if torch.cuda.is_available() else "cpu"


def pin_threads(threads: int | None = None) -> int:
    """Fix the number of torch's threads, here and now, and return it.

    Asking for the number that is set already is not idle: it also keeps MKL from taking fewer
    threads for small products, as it otherwise may in this process and not in another.
    """
    import torch

    threads = threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    return threads
