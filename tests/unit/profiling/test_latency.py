"""Latency with a clock that stands still but for the loops, and peak memory of known tensors."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from skipdit_cli.profiling import latency

MIB = 1 << 20


@pytest.fixture
def loop(monkeypatch):
    """A loop that takes the scripted seconds, call by call; `loop.calls` is what was called.

    What happens between two loops takes a second too, which must not be counted.
    """
    now = [0.0]

    def clock():
        return now[0]

    def run(spec):
        run.calls.append(spec)
        now[0] += run.seconds[spec].pop(0)

    def between(*_):
        run.calls.append("-")
        now[0] += 1

    run.calls, run.seconds, run.between = [], {}, between
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=clock))

    def loops(*names):
        return {name: partial(run, name) for name in names}

    run.of = loops
    return run


def test_medians_and_ratios_by_hand(loop):
    loop.seconds = {"none": [9, 4, 6, 5], "n=2": [9, 2, 2, 5], "n=3": [9, 1, 4, 2]}
    timed = latency.measure(
        loop.of("none", "n=2", "n=3"), reference="none", repeats=3, on_loop=loop.between
    )
    assert timed["none"].seconds == (4, 6, 5)
    assert timed["n=2"].seconds == (2, 2, 5)
    assert timed["none"].median == 5
    assert timed["n=2"].median == 2
    # within repetitions: 4/2, 6/2, 5/5 and 4/1, 6/4, 5/2
    assert timed["n=2"].speedup == (2, 3, 1)
    assert timed["n=2"].median_speedup == 2  # not 5/2, the ratio of the medians
    assert timed["n=3"].speedup == (4, 1.5, 2.5)
    assert timed["n=3"].median_speedup == 2.5
    assert timed["none"].speedup == (1, 1, 1)


def test_variants_are_interleaved_after_one_warm_up_each(loop):
    loop.seconds = {spec: [1.0] * 3 for spec in ("none", "a", "b")}
    finished = []
    latency.measure(
        loop.of("none", "a", "b"),
        reference="none",
        repeats=2,
        on_loop=lambda: finished.append(len(loop.calls)),
    )
    assert loop.calls == ["none", "a", "b"] * 3
    assert finished == list(range(1, 10))


def test_a_machine_that_slows_down_does_not_change_a_speedup(loop):
    slower = [1, 1, 2, 4, 8]
    loop.seconds = {"none": [2.0 * s for s in slower], "a": [1.0 * s for s in slower]}
    timed = latency.measure(loop.of("none", "a"), reference="none", repeats=4)
    assert timed["a"].speedup == (2, 2, 2, 2)


def test_a_gpu_is_waited_for_around_every_timed_loop(loop, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", loop.between)
    loop.seconds = {"none": [1, 3]}
    timed = latency.measure(loop.of("none"), reference="none", repeats=1, device="cuda")
    assert loop.calls == ["none", "-", "none", "-"]
    assert timed["none"].seconds == (3 + 1,)  # the wait at the end counts, the one before does not


def test_peak_of_one_tensor():
    peak = latency.peak_bytes(lambda: torch.zeros(MIB, dtype=torch.float32))
    assert 4 * MIB <= peak < 1.1 * 4 * MIB


def test_peak_counts_what_is_held_at_a_time():
    def work():
        for _ in range(5):
            torch.zeros(MIB, dtype=torch.uint8)  # freed at once
        held = [torch.zeros(MIB, dtype=torch.uint8) for _ in range(3)]
        del held[0]
        held.append(torch.zeros(2 * MIB, dtype=torch.uint8))

    peak = latency.peak_bytes(work)
    assert 4 * MIB <= peak < 1.1 * 4 * MIB


def test_peak_does_not_count_what_was_there_before():
    weights = torch.ones(8 * MIB, dtype=torch.uint8)
    peak = latency.peak_bytes(lambda: weights[: 2 * MIB] + 1)
    assert 2 * MIB <= peak < 1.1 * 2 * MIB


def test_measuring_memory_says_nothing(capfd):
    latency.peak_bytes(lambda: torch.zeros(10))
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_on_a_gpu():
    def work():
        torch.zeros(8 * MIB, dtype=torch.uint8, device="cuda")
        torch.zeros(4 * MIB, dtype=torch.uint8, device="cuda")

    before = torch.ones(16 * MIB, dtype=torch.uint8, device="cuda")
    assert 8 * MIB <= latency.peak_bytes(work, device="cuda") < 1.5 * 8 * MIB
    del before
