"""What a command says before it works, and where it stops: hours, memory, disk."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import typer

from skipdit_cli.cli import _estimate
from skipdit_cli.generate import memory
from skipdit_cli.plan import rates
from skipdit_cli.plan.rates import Measured

SAMPLE = "sample --model digits --num-samples 4 --batch-size 2 --steps 3"
SWEEP = "cache-sweep --model digits-skip --n 2 --steps 3 --num-samples 2 --repeats 1"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home of its own, in which nothing was measured."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(rates, "gpu_here", lambda: None)


@pytest.fixture
def measured(home):
    """measured(TFLOP/s) of this processor by both models."""

    def keep(tflops):
        device = rates.machine("cpu").label
        models = ("digits", "digits-skip")
        rates.keep(device, [Measured("float32", model, 1e7, tflops) for model in models])

    return keep


def told(done):
    return [line for line in done.err.splitlines() if line.startswith("estimate: ")]


def test_little_work_on_a_machine_nobody_measured_is_one_line(skipdit, home):
    (line,) = told(skipdit(SAMPLE).ok())
    assert re.fullmatch(r"estimate: [\d.]+ MB of memory, \d+ kB of disk", line)
    assert told(skipdit(SAMPLE).ok()) == []  # nothing is left


def test_hours_are_told_where_the_machine_was_measured(skipdit, measured):
    measured(1e-6)
    first, second, _ = told(skipdit(SAMPLE).ok())
    assert re.match(
        r"estimate: \d+ minutes on .*: sampling \d+ minutes; left: 4 samples of 1 run$", first
    )
    assert second == "estimate: rates: float32 1e-06 TFLOP/s, measured on digits"


@pytest.mark.slow
def test_a_sweep_counts_references_and_timing_and_what_is_there(skipdit, measured):
    measured(1e-5)
    given = "sample --model digits-skip --steps 3 --num-samples 2"
    skipdit(given).ok()  # the reference of the sweep
    first = told(skipdit(SWEEP).ok())[0]
    assert "left: 2 samples of 2 runs" in first
    assert "timing" in first


def test_a_disk_that_cannot_hold_it_stops_it(skipdit, home, monkeypatch, tmp_path):
    def disk(free):
        monkeypatch.setattr(_estimate.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))

    disk(4 * 768 // 4)  # the samples at a quarter of their size, but not what is kept beside them
    done = skipdit(SAMPLE, "--results", tmp_path / "full")
    done.failed(1, "full: what is left takes", "are free; free some space, or take another folder")
    assert not (tmp_path / "full").exists()
    disk(1e6)
    skipdit(SAMPLE, "--results", tmp_path / "roomy").ok()


def test_memory_that_may_not_do_is_told_and_what_cannot_do_is_refused(skipdit, home, monkeypatch):
    from skipdit_cli.generate.footprint import footprint
    from skipdit_cli.recipe.runs import make_run

    run = make_run("digits", settings={"num_samples": 4, "batch_size": 2, "steps": "3"})
    held = footprint(run)
    monkeypatch.setattr(_estimate, "SMALL", 0)
    monkeypatch.setattr(memory, "room_of", lambda device: held.peak(2) - 1)
    hours, line, _ = told(skipdit(SAMPLE).ok())
    assert "nothing says how fast" in hours
    assert line.endswith(" MB, in which batch 1 fits")
    monkeypatch.setattr(memory, "room_of", lambda device: held.weights)
    skipdit(SAMPLE, "--seed", "9").failed(2, "--batch-size: 2 samples of digits", "no batch fits")


@pytest.mark.parametrize("more", ["", "--yes"])
def test_hours_of_work_are_asked_for_on_a_terminal(skipdit, measured, monkeypatch, more):
    measured(1e-8)
    asked = []

    def confirm(question, **how):
        asked.append(question)
        return False

    monkeypatch.setattr(typer, "confirm", confirm)
    monkeypatch.setattr(_estimate, "terminal", lambda: True)
    done = skipdit(SAMPLE, *more.split())
    if more:
        done.ok()
        assert asked == []
    else:
        done.failed(1, "stopped before anything was made; --yes does not ask")
        assert asked == ["Go on?"]
        assert told(done)


def test_minutes_of_work_and_logs_are_not_asked_for(skipdit, measured, monkeypatch):
    monkeypatch.setattr(typer, "confirm", lambda *given, **how: pytest.fail("it asked"))
    measured(1e-8)
    skipdit(SAMPLE).ok()  # hours, but nobody is there to answer
    measured(1e-5)
    monkeypatch.setattr(_estimate, "terminal", lambda: True)
    skipdit(SAMPLE, "--seed", "1").ok()


def test_without_weights_there_is_nothing_to_tell(skipdit, home):
    done = skipdit("sample --model taichi --num-samples 1 --steps 2")
    done.failed(4, "the weights of taichi are not here")
    assert told(done) == []


def test_a_plan_says_why_there_are_no_hours(skipdit, table, home):
    shown = skipdit("plan --model digits").ok().out
    assert table(shown)[0]["hours"] == "unknown"
    assert "`skipdit profile --calibrate --model digits --precision float32` measures it" in shown
    shown = skipdit("plan --model digits --precision bfloat16 --gpu v100").ok().out
    assert "nothing says how fast V100 is in bfloat16; take another --gpu" in shown
    skipdit("plan --model digits --gpu x100").failed(2, "--gpu: unknown GPU 'x100'")


def test_a_plan_for_a_gpu(skipdit, table):
    given = "plan table7 --scale paper --num-samples 32 --gpu"
    shown = skipdit(given, "h100").ok().out
    lines = table(shown)
    assert all(re.fullmatch(r"\d+\.\d\d", line["hours"]) for line in lines)
    assert all(line["memory"].endswith(" GB") for line in lines)
    assert re.search(r"on H100: sampling .*; left: 128 samples of 4 runs", shown)
    assert "rates: tf32 220 TFLOP/s, assumed, a share of NVIDIA's H100 SXM data sheet" in shown
    assert re.search(r"of memory at batch 32 \(.*: weights 2.85 GB, steps", shown)
    assert re.search(r"of disk at most \(samples 25.2 MB, trajectories .*, features", shown)
    one, other = (json.loads(skipdit(given, gpu, "--json").ok().out) for gpu in ("a100", "h200"))
    assert one["left"]["machine"] == "A100"
    assert one["left"]["sampling_hours"] == pytest.approx(
        other["left"]["sampling_hours"] * 220 / 70
    )
    assert len(one["rows"]) == 4
    parts = [row["estimate"]["sampling_hours"] for row in one["rows"]]
    assert one["left"]["sampling_hours"] == pytest.approx(sum(parts))
    assert one["left"]["memory_bytes"] == max(
        row["estimate"]["memory_bytes"] for row in one["rows"]
    )


def test_all_is_all(skipdit):
    skipdit("plan table1 --all").failed(2, "--all: table1 is one table; leave it out")


def test_calibrating_gives_hours(skipdit, table, home):
    done = skipdit("profile --calibrate --model digits --repeats 1 --batch-size 2").ok()
    (line,) = table(done.out)
    assert (line["precision"], line["model"], line["batch"]) == ("float32", "digits", "2")
    reached = float(line["TFLOP/s"])
    assert 1e-6 < reached < 10
    shown = skipdit("plan --model digits --json").ok().out
    (row,) = json.loads(shown)["rows"]
    (source,) = row["estimate"]["rates"]
    assert source.startswith(f"float32 {reached:g}"[:12])
    assert source.endswith("measured on digits")
    assert row["estimate"]["hours"] > 0
    skipdit("profile --calibrate --n 2").failed(2, "--calibrate: --n changes nothing")


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_a_terminal_asks(measured, tmp_path, answer, code):
    measured(1e-8)
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "skipdit_cli", *SAMPLE.split()]
    process = subprocess.Popen(
        command, stdin=slave, stdout=subprocess.DEVNULL, stderr=slave, cwd=tmp_path
    )
    os.close(slave)
    seen = b""
    while b"Go on?" not in seen:
        seen += os.read(master, 1024)
    os.write(master, f"{answer}\n".encode())
    while True:
        try:
            more = os.read(master, 1024)
        except OSError:  # the other end is closed
            break
        seen += more
        if not more:
            break
    assert process.wait(timeout=120) == code
    assert (b"stopped before anything was made" in seen) == (code == 1)
    assert len([*tmp_path.glob("results/samples/*/*.png")]) == (4 if code == 0 else 0)
    shutil.rmtree(tmp_path / "results", ignore_errors=True)


def test_a_plan_for_several_gpus_shares_all_but_the_timing(skipdit, home):
    given = "plan smoke --scale tiny --gpu h100 --json --set num_samples=100000"
    alone, shared = (
        json.loads(skipdit(f"{given} --workers {gpus}").ok().out)["left"] for gpus in (1, 8)
    )
    assert (alone["gpus"], shared["gpus"]) == (1, 8)
    timing = alone["timing_hours"]
    assert shared["hours"] == pytest.approx((alone["hours"] - timing) / 8 + timing)
    assert shared["sampling_hours"] == alone["sampling_hours"]
    out = skipdit("plan smoke --gpu h100 --workers 8 --set num_samples=10000000").ok().out
    assert " on 8 x H100: of one of them sampling " in out
    skipdit("plan --all --workers 8").failed(2, "--all: --workers is of one table")
    skipdit("plan smoke --workers 0").failed(2, "--workers")
