"""Table 3 on 64 workers that fail now and then: how much of their time is work; `make bench-scale`.

The seconds of a batch are measured here, one of each row of the table at tiny scale; there are as
many batches as at paper scale. What shares them out is the product's own code; the workers are
stand-ins that wait as long as a batch takes, faster by a factor, and lose what they have begun when
they fail. Efficiency is the time of the batches over the time that the workers had.
"""

import argparse
import heapq
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from skipdit_cli.errors import SkipditError
from skipdit_cli.generate import batch, conditioning
from skipdit_cli.generate.engine import share
from skipdit_cli.generate.worker import Ended, Task
from skipdit_cli.recipe import recipe, runs
from skipdit_cli.run import Run


class FailedError(Exception):
    pass


class Clock:
    """Answers futures when their time has come."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Future, object]] = []
        self._more, self._count = threading.Condition(), 0
        threading.Thread(target=self._loop, daemon=True).start()

    def answer(self, future: Future, what: object, *, after: float) -> None:
        with self._more:
            self._count += 1
            due = time.perf_counter() + after
            heapq.heappush(self._due, (due, self._count, future, what))
            self._more.notify()

    def _loop(self) -> None:
        while True:
            with self._more:
                while not self._due:
                    self._more.wait()
                left = self._due[0][0] - time.perf_counter()
                if left > 0:
                    self._more.wait(left)
                    continue
                _, _, future, what = heapq.heappop(self._due)
            if isinstance(what, Exception):
                future.set_exception(what)
            else:
                future.set_result(what)


class Simulated:
    """A worker that takes as long as was measured, and fails at random."""

    def __init__(
        self, clock: Clock, seconds: dict[str, float], *, start: float, between: float, seed: int
    ) -> None:
        self._clock, self._seconds, self._start = clock, seconds, start
        self._random, self._between = random.Random(seed), between
        self._begun: list[Ended] = []
        self._dies = 0.0
        self.failures = 0

    def start(self) -> Future:
        self._begun, started = [], Future()
        self._dies = self._random.expovariate(1 / self._between)
        self._clock.answer(started, None, after=self._start)
        return started

    def submit(self, number: int, task: Task | None) -> Future:
        told: Future = Future()
        takes = self._seconds[task.of] if task else 0.0
        if self._dies < takes:
            self.failures += 1
            self._clock.answer(told, FailedError(), after=self._dies)
            return told
        self._dies -= takes
        ended, self._begun = self._begun, [Ended(number)] if task else []
        self._clock.answer(told, ended, after=takes)
        return told

    def died(self, error: BaseException) -> bool:
        return isinstance(error, FailedError)


def measured(chosen: Run) -> float:
    """Seconds of a batch of a run on this machine: the second, when all is loaded."""
    run = replace(chosen, batch_size=1, num_samples=1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        conditioning.prepare(run, root)
        for _ in range(2):
            begun = time.perf_counter()
            for _ in batch.make(run, [0], root=root, how=batch.How()):
                pass
            taken = time.perf_counter() - begun
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--table", default="table3")
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--speed", type=float, default=10, help="times faster than measured")
    parser.add_argument("--between-failures", type=float, default=1000, help="batches of a worker")
    parser.add_argument("--share", type=float, default=1, help="of the batches at paper scale")
    parser.add_argument("--loading", type=float, default=4, help="batches a start takes as long as")
    given = parser.parse_args()
    tiny, paper = (recipe.load_recipe(given.table, scale=scale) for scale in ("tiny", "paper"))
    rows = list(dict.fromkeys(run for run, _ in runs.scored(tiny)))
    counts = [run for run, _ in runs.scored(paper)]
    most = max(-(-run.num_samples // run.batch_size) for run in counts)
    batches = round(most * given.share)
    seconds = {run.key: measured(run) / given.speed for run in rows}
    mean = statistics.mean(seconds.values())

    def tasks() -> Iterator[Task]:
        for key in seconds:
            yield from (Task(print, [i], key) for i in range(batches))

    clock, done = Clock(), []
    workers = [
        Simulated(
            clock,
            seconds,
            start=given.loading * mean,
            between=given.between_failures * mean,
            seed=seed,
        )
        for seed in range(given.workers)
    ]
    begun = time.perf_counter()
    share(
        workers,
        tasks(),
        on_done=lambda task, _: done.append((task.of, task.batch[0])),
        on_failed=lambda task, error: print(f"failed: {task.of}: {error}"),
        died=lambda: SkipditError("a worker failed three times at it"),
    )
    taken = time.perf_counter() - begun
    work = sum(seconds.values()) * batches
    assert len(set(done)) == len(done) == len(rows) * batches, "some are missing, or done twice"
    print(
        f"{given.table}: {len(rows)} runs of {batches} batches on {given.workers} workers, "
        f"{sum(worker.failures for worker in workers)} failures"
    )
    print(
        f"  a batch takes {min(seconds.values()) * given.speed:.2f} s to "
        f"{max(seconds.values()) * given.speed:.2f} s here"
    )
    print(f"  efficiency: {work / (taken * given.workers):.1%} of the workers' time is work")


if __name__ == "__main__":
    main()
