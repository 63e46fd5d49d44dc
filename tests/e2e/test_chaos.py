"""Kills at random, of a command and of its workers: the samples are those of a run that nobody
disturbed, and each is entered once.

With those of contract/test_runs.py (16, of a process that is alone) and of test_ray.py (4 or more,
of nodes and drivers) they are a hundred.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

# a busy machine takes seconds from one kill to the next
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
KILLS = 80  # of which every tenth is of the command itself
SAMPLE = "sample --model digits-skip --num-samples {count} --batch-size 1 --steps 4 --workers 2"


def children(pid):
    """The worker processes of a command: those that spawned Python for it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = path.read_text().rpartition(")")
            line = Path(path.parent, "cmdline").read_bytes()
        except OSError:
            continue
        if int(rest.split()[1]) == pid and b"spawn_main" in line:
            found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
def test_kills_at_random_lose_nothing(skipdit, tmp_path, samples):
    chance = random.Random(0)
    count, kills, drivers = 400, 0, 0
    root, whole = tmp_path / "results", tmp_path / "whole"
    running = None
    while kills < KILLS:
        if running is None or running.poll() is not None:
            if running is not None and running.returncode == 0:
                count += 400  # all is done: more of it
            running = skipdit.start(
                SAMPLE.format(count=count),
                "--results",
                root,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        time.sleep(chance.uniform(0.05, 2))
        victims = children(running.pid)
        if not victims:  # it has not come that far
            continue
        victim = running.pid if kills % 10 == 9 else chance.choice(victims)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        kills += 1
        if victim == running.pid:
            running.wait()
            drivers += 1
    running.kill()
    running.wait()
    assert kills == KILLS
    assert 2 < drivers < kills
    made = len(samples(root))
    command = SAMPLE.format(count=max(made, 8)).replace("--workers 2", "--workers 1")
    skipdit(command, "--results", root).ok()
    skipdit(command, "--results", whole).ok()
    assert samples(whole).items() <= samples(root).items()
    (folder,) = (root / "samples").iterdir()
    entered = [line for line in (folder / "samples.jsonl").read_text().splitlines() if line]
    assert len(entered) == len(samples(root))
    assert not list(folder.glob("0*.json"))
    assert not list(folder.glob(".*.tmp"))
