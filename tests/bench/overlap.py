"""Samples per second with and without the thread that stores them; `make bench` runs it.

Both ways make the same samples, in turn, into a new folder each time. How much the thread gains is
how long it takes to encode, hash and write a batch beside how long it takes to compute one, on a
machine that has a core to spare for it; so few steps are taken here. torch gets one core less than
there are.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) - 1)))

from skipdit_cli.generate import batch, samples
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.run import Run


def first_stored(compute: Callable[..., Iterator[None]]) -> Callable[..., None]:
    """The work on a batch of which nothing is left to the thread."""

    def work(*given: object, **how: object) -> None:
        for _ in compute(*given, **how):
            pass

    return work


def rate(run: Run, *, beside: bool) -> float:
    """Samples per second of a run, from an empty folder."""
    compute = batch.make if beside else first_stored(batch.make)
    with tempfile.TemporaryDirectory() as folder, patch.object(batch, "make", compute):
        begun = time.perf_counter()
        samples.generate(run, Path(folder))
        return run.num_samples / (time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="moving-digits")
    parser.add_argument("--steps", default="2")
    parser.add_argument("--num-samples", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    settings = {
        "steps": chosen.steps,
        "num_samples": chosen.num_samples,
        "batch_size": chosen.batch_size,
    }
    run = make_run(chosen.model, settings=settings)
    rate(run, beside=True)  # loads what has to be loaded
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(chosen.repeats):
        for beside, found in rates.items():
            found.append(rate(run, beside=beside))
    gains = [b / a for a, b in zip(rates[False], rates[True], strict=True)]
    print(
        f"{chosen.model}, {chosen.num_samples} samples of {chosen.steps} steps, batch "
        f"{chosen.batch_size}, {os.environ['OMP_NUM_THREADS']} threads of torch: "
        f"{statistics.median(rates[False]):.1f} samples/s stored after each batch, "
        f"{statistics.median(rates[True]):.1f} beside the next "
        f"({statistics.median(gains):.2f}x, {min(gains):.2f} to {max(gains):.2f})"
    )


if __name__ == "__main__":
    main()
