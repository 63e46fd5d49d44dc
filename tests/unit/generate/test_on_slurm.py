"""Jobs of a queue: what they tell of the tasks that they did."""

import functools
import json
import subprocess

import pytest

from skipdit_cli.errors import SkipditError
from skipdit_cli.generate import worker
from skipdit_cli.generate.on_slurm import _Job
from skipdit_cli.generate.worker import Task


def fails(error, batch):
    raise error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SkipditError("out of memory"), "out of memory"),
        (subprocess.CalledProcessError(1, ["nvidia-smi"]), "CalledProcessError"),
        # the queue kills the job, and with it what has just asked for that
        (subprocess.CalledProcessError(-15, ["scontrol", "requeue", "26_0"]), None),
    ],
)
def test_a_job_that_is_cut_off_says_nothing_of_its_task(tmp_path, monkeypatch, error, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "pin_threads", lambda threads: None)
    job = _Job([(3, Task(functools.partial(fails, error), [0], "run"))], tmp_path, 1, str(tmp_path))
    job()
    found = [json.loads(path.read_text())["error"]["problem"] for path in tmp_path.glob("3.json")]
    assert len(found) == (told is not None)
    assert all(told in problem for problem in found)
