"""Latency of the denoising loop, cached runs interleaved with the uncached reference.

What is timed is the loop alone: no text encoding, no decoding, no writing. Every repetition runs
each variant once, in turn, so that a machine that slows down slows all of them, and a speedup is
the median of the ratios within repetitions. Latency does not depend on the weights.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Latency:
    """Timings of one cache.

    Attributes:
        seconds: of every repetition.
        speedup: the reference's seconds over these, per repetition.
        compiling: seconds for which torch compiled in its warm-up; what one variant has compiled
            the next ones have.
    """

    seconds: tuple[float, ...]
    speedup: tuple[float, ...]
    compiling: float = 0.0

    @property
    def median(self) -> float:
        """Median latency in seconds."""
        return statistics.median(self.seconds)

    @property
    def median_speedup(self) -> float:
        """Median of the ratios, which is not the ratio of the medians."""
        return statistics.median(self.speedup)


def measure(
    loops: Mapping[str, Callable[[], object]],
    *,
    reference: str,
    repeats: int = 5,
    device: str = "cpu",
    on_loop: Callable[[], None] | None = None,
) -> dict[str, Latency]:
    """Time the denoising loop of every cache.

    Args:
        loops: by name, what runs the whole loop.
        reference: which of them is the uncached one.
        repeats: timed repetitions, after one warm-up of each variant.
        device: whose work is waited for around every timed loop.
        on_loop: called after every loop.
    Returns:
        Timings by name.
    """
    compiling: dict[str, float] = {}
    for name, loop in loops.items():  # warm-up
        before = _compiled()
        loop()
        compiling[name] = _compiled() - before
        if on_loop:
            on_loop()
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, loop in loops.items():
            synchronize(device)
            started = time.perf_counter()
            loop()
            synchronize(device)
            seconds[name].append(time.perf_counter() - started)
            if on_loop:
                on_loop()
    return {
        name: Latency(
            tuple(seconds[name]),
            tuple(a / b for a, b in zip(seconds[reference], seconds[name], strict=True)),
            compiling[name],
        )
        for name in loops
    }


def _compiled() -> float:
    """For how many seconds torch has compiled in this process so far."""
    utils = sys.modules.get("torch._dynamo.utils")  # heavy, and absent where nothing was compiled
    return sum(utils.compilation_time_metrics.get("_compile.compile_inner", ())) if utils else 0.0


def synchronize(device: str) -> None:
    """Wait for what was started on a GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_bytes(work: Callable[[], object], *, device: str = "cpu") -> int:
    """The most memory that tensors allocated during a piece of work took at a time, in bytes.

    On a GPU the caching allocator counts; on a CPU torch's profiler sees every allocation.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler prints its every start
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        work()
    total = peak = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            peak = max(peak, total)
    return peak
