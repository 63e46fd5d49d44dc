"""What goes wrong while something is computed, told in one line: a lack of memory, a plugin."""

import math
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.errors import SkipditError, UsageError, lacks_memory
from skipdit_cli.generate import loaded
from skipdit_cli.generate.accelerated import AUTOENCODER, OF_PIPELINES
from skipdit_cli.generate.footprint import footprint

if TYPE_CHECKING:
    from skipdit_cli.run import Run

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def require(run: "Run", *, device: str, workers: int = 1, offload: str = "") -> None:
    """Raise UsageError, before anything starts, where the batches of a run cannot fit in memory.

    What the estimate of a step may be wrong by is on the side of the run: nothing is refused that
    fits, and what is let through may still turn out too large.

    Args:
        device: "cpu" or "cuda", of which each worker may have one of its own.
        workers: processes that compute a batch each; 0 where they are not on this machine.
        offload: as `Options` has it.
    """
    if not workers:
        return
    if not run.card.pipeline:
        offload = AUTOENCODER  # which is not there while a loop is timed
    batches = min(workers, math.ceil(run.num_samples / run.batch_size)) if device == "cpu" else 1
    held, room = footprint(run), room_of(device) / batches
    if (needed := held.least(run.batch_size, offload=offload)) <= room:
        return
    most = held.fitting(room, offload=offload) or int(held.least(1, offload=offload) <= room)
    fix = f"take {most} or fewer" if most else "no batch fits here"
    for other in OF_PIPELINES if run.card.pipeline and device != "cpu" else ():
        if held.least(run.batch_size, offload=other) <= room:
            fix += f", but with --offload {other}"
            break
    beside = f" in each of {batches} processes" if batches > 1 else ""
    raise UsageError(
        f"{run.batch_size} samples of {run.label} {_cached(run)} at once{beside} take "
        f"{needed / 1e9:.1f} GB at least, and there are {room / 1e9:.1f} GB",
        place="--batch-size",
        fix=fix,
    )


def _cached(run: "Run") -> str:
    return "without a cache" if run.is_reference else f"with {run.cache.short}"


def require_room(what: str, sizes: Mapping[str, int], *, precision: str, device: str) -> None:
    """Raise UsageError where a network does not fit in the memory of a device.

    Args:
        what: the network, for people.
        sizes: bytes of its weights by the precisions that it may have.
        precision: the one that it is to have.
    """
    room = room_of(device)
    if sizes[precision] > room:
        fitting = [f"{each} ({size / 1e9:.1f} GB)" for each, size in sizes.items() if size <= room]
        raise UsageError(
            f"{what} takes {sizes[precision] / 1e9:.1f} GB in {precision} and there are "
            f"{room / 1e9:.1f} GB",
            fix=f"take {' or '.join(fitting)}" if fitting else "take a machine with more memory",
        )


def room_of(device: str) -> float:
    """Bytes that a process may have of a device's memory; infinite where that is not known."""
    if device != "cpu":
        import torch

        return torch.cuda.mem_get_info()[1]
    limits = [math.inf]
    with suppress(OSError, TypeError):
        known = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        limits.append(int(known[1]) * 1024)  # type: ignore[index]
    for path in map(Path, _CGROUPS):
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            limits.append(int(path.read_text()))
    return min(limits)


def memory_checked(batch_size: int | None, *, scored: str = "") -> AbstractContextManager[None]:
    """Tell a lack of memory in the block, on a GPU or not, as an error for people.

    Args:
        batch_size: of the sampling; None while samples are scored.
        scored: how `skipdit evaluate` is told which these are.
    """
    if batch_size is None:
        return told("while scoring", fix=f"score with `skipdit evaluate {scored} --device cpu`")
    return told(f"at batch size {batch_size}", fix="take a smaller --batch-size")


@contextmanager
def told(where: str, *, fix: str) -> Iterator[None]:
    """Tell a lack of memory in the block as an error for people, and make room for what follows.

    So is what the code of another distribution raises, with its file and line.

    Args:
        where: what was done ("while scoring").
        fix: what takes less.
    Raises:
        SkipditError: in place of what torch, CUDA or Python raises for it.
    """
    try:
        yield
    except SkipditError:
        raise
    except Exception as error:
        if not lacks_memory(error):
            if blamed := registry.blamed(error):
                raise blamed from error
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what filled the memory
        loaded.release()
        words = str(error).strip().partition("\n")[0][:120]
        sure = isinstance(error, MemoryError) or re.search("memory|alloc", words, re.IGNORECASE)
        problem = f"out of memory {where}" + ("" if sure else f", as it seems ({words})")
        raise SkipditError(problem, fix=fix) from None
