"""Batches are computed once each, here or elsewhere; failures lose nothing that was finished."""

import functools
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from skipdit_cli.errors import SkipditError, StoreError, UsageError
from skipdit_cli.generate import engine
from skipdit_cli.generate.local import Local

# What the workers run; a module of its own, because a spawned process has to import it.
WORK = '''
import os, signal, time
from pathlib import Path
import numpy as np, torch
from skipdit_cli.errors import StoreError

calls = 0

def note(folder, batch):
    """One file per batch: which process computed it, its threads and calls."""
    global calls
    calls += 1
    name = "-".join(map(str, batch))
    Path(folder, f"begun-{name}").write_text("")
    time.sleep(0.2)
    return stored(Path(folder, f"done-{name}"), f"{os.getpid()} {torch.get_num_threads()} {calls}")

def stored(path, text):
    time.sleep(0.1)
    path.write_text(text)
    yield

def meet(folder, batch):
    """The same, begun when a second process has appeared."""
    Path(folder, f"pid-{os.getpid()}").write_text("")
    while len(list(Path(folder).glob("pid-*"))) < 2:
        time.sleep(0.02)
    return note(folder, batch)

def compute(folder, batch):
    for index in batch:
        generator = torch.Generator().manual_seed(index)
        x = torch.randn(192, 384, generator=generator)
        for _ in range(4):
            x = torch.nn.functional.layer_norm(x @ x.T @ x, (384,)).softmax(0).mul(9).cos()
        np.save(Path(folder, f"{index}.npy"), x.sum(0).numpy())

def fail(folder, batch):
    if batch == [1]:
        raise StoreError("disk full", place="here", fix="free some")
    return note(folder, batch)

def fail_late(folder, batch):
    return full() if batch == [1] else note(folder, batch)

def full():
    raise StoreError("disk full", place="here", fix="free some")
    yield

def odd(folder, batch):
    if batch == [0]:
        raise ZeroDivisionError("0 / 0")
    return note(folder, batch)

def die(folder, batch):
    if batch == [2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return note(folder, batch)

def hang(folder, batch):
    Path(folder, f"pid-{batch[0]}").write_text(str(os.getpid()))
    time.sleep(600)
'''


def run_batches(work, batches, *, workers=1, on_done=None):
    engine.run_batches(work, batches, engine=Local(workers), on_done=on_done)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """work("note") is the function `note` of WORK, bound to the test's folder."""
    (tmp_path / "engine_work.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("engine_work")
    yield lambda name: functools.partial(getattr(module, name), str(tmp_path))
    del sys.modules["engine_work"]


def notes(folder: Path, kind: str) -> dict[str, list[int]]:
    return {
        path.name.removeprefix(f"{kind}-"): [int(x) for x in path.read_text().split()]
        for path in folder.glob(f"{kind}-*")
    }


def test_one_worker_is_this_process_in_order(tmp_path):
    seen = []
    run_batches(
        lambda batch: seen.append(("work", batch)),  # need not be picklable
        [[2, 3], [0], [1]],
        on_done=lambda batch: seen.append(("done", batch)),
    )
    assert seen == [(kind, batch) for batch in ([2, 3], [0], [1]) for kind in ("work", "done")]


def test_no_batches_is_no_work():
    run_batches(lambda batch: pytest.fail("called"), [], workers=4)


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_a_usage_error(workers):
    with pytest.raises(UsageError, match=f"number of workers cannot be {workers}"):
        run_batches(print, [[0]], workers=workers)


def test_a_failure_here_ends_the_run_and_keeps_what_is_done():
    done = []

    def work(batch):
        if batch == [1]:
            raise StoreError("disk full")

    with pytest.raises(StoreError, match="disk full"):
        run_batches(work, [[0], [1], [2]], on_done=done.append)
    assert done == [[0]]


@pytest.mark.slow
def test_workers_share_the_batches_and_the_number_of_threads(work, tmp_path):
    batches, done, before = [[0, 1], [2], [3, 4], [5], [6]], [], torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        run_batches(work("meet"), batches, workers=2, on_done=done.append)
    finally:
        torch.set_num_threads(before)
    computed = notes(tmp_path, "done")
    assert sorted(computed) == ["0-1", "2", "3-4", "5", "6"]
    assert sorted(done) == sorted(batches)  # each once
    processes = {pid for pid, _, _ in computed.values()}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {threads for _, threads, _ in computed.values()} == {3}
    assert max(calls for _, _, calls in computed.values()) >= 3  # a worker keeps its module


@pytest.mark.slow
def test_workers_that_wait_leave_the_cores_to_others(work, tmp_path):
    """As OpenMP tells it when it is loaded; what a person has set stays."""
    script = (
        "import functools\n"
        "from skipdit_cli.generate.engine import run_batches\n"
        "from skipdit_cli.generate.local import Local\n"
        "if __name__ == '__main__':\n"
        "    import engine_work\n"
        f"    work = functools.partial(engine_work.note, {str(tmp_path)!r})\n"
        "    run_batches(work, [[0], [1]], engine=Local(2))\n"
    )
    (tmp_path / "script.py").write_text(script)
    told, shown = {}, {"OMP_DISPLAY_ENV": "verbose"}
    for policy in ("", "active"):
        given = {"OMP_WAIT_POLICY": policy} if policy else {}
        done = subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                **shown,
                **given,
            },
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        told[policy] = re.findall(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr)
    assert told["active"].count("0") == 0
    assert len(told["active"]) == 3
    assert told[""].count("0") == 2  # the workers, and not who started them


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_is_set_though_it_is_what_torch_has(monkeypatch, threads):
    """Only then does MKL take as many in every process."""
    was_set = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(torch, "set_num_threads", was_set.append)
    run_batches(lambda batch: was_set.append("work"), [[0], [1]])
    assert was_set == [threads, "work", "work"]


@pytest.mark.slow
def test_results_are_bit_identical_with_all_threads_of_the_machine(work, tmp_path):
    """One worker and two in a process that was told no number of threads."""
    script = tmp_path / "script.py"
    script.write_text(
        "import functools, sys, engine_work\n"
        "from skipdit_cli.generate.engine import run_batches\n"
        "from skipdit_cli.generate.local import Local\n"
        "if __name__ == '__main__':\n"
        "    work = functools.partial(engine_work.compute, sys.argv[1])\n"
        "    run_batches(work, [[0], [1], [2]], engine=Local(int(sys.argv[2])))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    del env["OMP_NUM_THREADS"]
    found = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        subprocess.run([sys.executable, script, folder, str(workers)], env=env, check=True)
        found.append({path.name: path.read_bytes() for path in folder.glob("*.npy")})
    assert len(found[0]) == 3
    assert found[0] == found[1]


@pytest.mark.slow
def test_results_are_bit_identical_on_one_and_two_workers(work, tmp_path):
    batches = [[i] for i in range(4)]
    run_batches(work("compute"), batches)
    alone = {path.name: path.read_bytes() for path in tmp_path.glob("*.npy")}
    for path in tmp_path.glob("*.npy"):
        path.unlink()
    run_batches(work("compute"), batches, workers=2)
    together = {path.name: path.read_bytes() for path in tmp_path.glob("*.npy")}
    assert len(set(alone.values())) == 4
    assert together == alone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"), [pytest.param("fail", 0, marks=pytest.mark.slow), ("fail_late", 3)]
)
def test_an_error_in_a_worker_arrives_whole_and_begins_no_further_batch(work, tmp_path, name, more):
    done = []
    with pytest.raises(StoreError) as caught:
        run_batches(work(name), [[i] for i in range(12)], workers=2, on_done=done.append)
    assert str(caught.value) == "here: disk full; free some"
    assert caught.value.exit_code == 1
    begun, finished = notes(tmp_path, "begun"), notes(tmp_path, "done")
    # one per worker, one in the place of the failed one, and those begun while it is written
    assert len(begun) <= 3 + more
    assert begun.keys() == finished.keys()  # what was being computed is finished and reported
    assert sorted(str(i) for [i] in done) == sorted(finished)


@pytest.mark.slow
def test_an_error_that_is_not_ours_arrives_too(work):
    with pytest.raises(ZeroDivisionError, match="0 / 0"):
        run_batches(work("odd"), [[0], [1]], workers=2)


@pytest.mark.slow
def test_a_killed_worker_is_one_line_and_finished_batches_stay(work, tmp_path):
    done = []
    with pytest.raises(SkipditError) as caught:
        run_batches(work("die"), [[i] for i in range(8)], workers=2, on_done=done.append)
    assert str(caught.value).startswith("a worker process died: killed, or out of memory; run the")
    assert type(caught.value) is SkipditError
    finished = notes(tmp_path, "done")
    assert {str(i) for [i] in done} <= finished.keys()
    assert "2" not in finished
    assert len(notes(tmp_path, "begun")) < 8


def gone(pid: int) -> bool:
    """Whether a process has ended (a zombie that nobody has waited for yet has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition, *, seconds: float) -> float:
    """Seconds until the condition holds; fails after `seconds`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - start


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
@pytest.mark.parametrize(
    "how",
    [
        pytest.param("ctrl-c", marks=pytest.mark.slow),
        "ctrl-c of the whole group",
        pytest.param("kill -9", marks=pytest.mark.slow),
    ],
)
def test_the_workers_end_with_their_parent(work, tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(
        "import functools, engine_work\n"
        "from skipdit_cli.generate.engine import run_batches\n"
        "from skipdit_cli.generate.local import Local\n"
        "if __name__ == '__main__':\n"
        f"    work = functools.partial(engine_work.hang, {str(tmp_path)!r})\n"
        "    run_batches(work, [[0], [1], [2]], engine=Local(2))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        wait_for(lambda: sum(len(x) for x in notes(tmp_path, "pid").values()) == 2, seconds=120)
        workers = [pid for [pid] in notes(tmp_path, "pid").values()]
        assert not any(map(gone, workers))
        if how == "ctrl-c":
            parent.send_signal(signal.SIGINT)
        elif how == "kill -9":
            parent.kill()
        else:
            for pid in workers:  # which leave it to their parent
                os.kill(pid, signal.SIGINT)
            time.sleep(0.3)
            assert parent.poll() is None
            assert not any(map(gone, workers))
            os.killpg(parent.pid, signal.SIGINT)
        _, errors = parent.communicate(timeout=60)
        wait_for(lambda: all(map(gone, workers)), seconds=60)
        assert parent.returncode == (-signal.SIGKILL if how == "kill -9" else -signal.SIGINT)
        assert errors.count("Traceback") == (0 if how == "kill -9" else 1)  # none of a worker
        assert not (tmp_path / "pid-2").exists()  # the third batch was never begun
    finally:
        parent.kill()
