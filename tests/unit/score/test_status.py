"""How far runs are, by hand: states, samples, scores, who works on them, weights of others."""

import os
from dataclasses import replace

import numpy as np
import pytest

from skipdit_cli import registry
from skipdit_cli.errors import IncompleteError, SkipditError
from skipdit_cli.recipe import runs as known
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score import status
from skipdit_cli.score import study as studies
from skipdit_cli.score.status import of_folder, of_study, require
from skipdit_cli.score.study import Study
from skipdit_cli.storage.failures import write_failure
from skipdit_cli.storage.results import Result, write_result
from skipdit_cli.storage.store import open_store

SETTINGS = {"sampler": "ddim", "steps": "4", "num_samples": 3, "batch_size": 2}
TWO = make_run("digits-skip", "skip-cache(n=2)", SETTINGS)
THREE = make_run("digits-skip", "skip-cache(n=3)", SETTINGS)
STUDY = Study(name="mine", runs=(TWO,), metrics=("psnr", "accuracy@digits"))


def fill(root, run, n=3):
    store = open_store(root, run)
    with store.lock():
        for index in range(n):
            store.write(index, np.full((16, 16, 3), index, np.uint8), meta={"class": index})


def score(root, run, metric, *, n=3, version=None, value=1.0):
    version = registry.load("metrics", metric).VERSION if version is None else version
    each = Result(metric=metric, value=value, unit="", n=n, run=run.key, version=version)
    write_result(root, each)


def state(root, run=TWO, *, study=STUDY):
    (found,) = (each for each in of_study(study, root).runs if each.key == run.key)
    return found


@pytest.fixture
def root(tmp_path):
    """All is there of both runs of the study."""
    for run in (TWO.reference, TWO):
        fill(tmp_path, run)
        score(tmp_path, run, "accuracy@digits")
    score(tmp_path, TWO, "psnr")
    return tmp_path


def test_all_is_done(root):
    found = of_study(STUDY, root)
    assert [run.key for run in found.runs] == [TWO.reference.key, TWO.key]
    assert [run.state for run in found.runs] == ["done", "done"]
    assert [run.scored for run in found.runs] == [("accuracy@digits",), STUDY.metrics]
    assert found.done
    require(found, place="here")


def test_nothing_is_there(tmp_path):
    found = of_study(STUDY, tmp_path / "nowhere")
    assert found.counts == {"waiting": 2}
    with pytest.raises(IncompleteError, match=r"2 of 2 runs .* \(6 samples, 3 scores left\)"):
        require(found, place="here")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(IncompleteError, match="no run is there yet"):
        require(of_folder(tmp_path / "nowhere"), place="here")


@pytest.mark.parametrize(("n", "version", "value"), [(2, None, 1.0), (3, 0, 1.0), (3, None, None)])
def test_a_score_of_something_else_is_lacking(root, n, version, value):
    (root / "scores" / TWO.key / "psnr.json").unlink()
    score(root, TWO, "psnr", n=n, version=version, value=value)
    assert (state(root).lacking, state(root).state) == (("psnr",), "waiting")


def test_more_samples_are_wanted(root):
    more = STUDY.with_runs((), num_samples=5)
    found = state(root, study=more)
    assert (found.finished, found.wanted, found.state) == (3, 5, "waiting")
    assert found.lacking == more.metrics
    fewer = STUDY.with_runs((), num_samples=2)
    assert state(root, study=fewer).finished == 2


def test_what_failed_is_told_until_it_is_there(root):
    study = replace(STUDY, metrics=("psnr", "ssim"))
    write_failure(root, TWO.key, "ssim", reason="no room")
    assert (state(root, study=study).state, state(root).state) == ("failed", "done")
    write_failure(root, TWO.key, "samples", reason="a worker died")
    found = of_study(study, root)
    assert found.runs[1].failed == {"samples": "a worker died", "ssim": "no room"}
    with pytest.raises(
        SkipditError, match=r"2 failed, first skip-cache n=2 \(a worker died\)"
    ) as e:
        require(found, place="here")
    assert e.value.exit_code == 1
    with open_store(root, TWO).lock():  # somebody tries again
        found = of_study(study, root)
        assert (found.runs[1].state, found.failed) == ("running", False)
    score(root, TWO, "ssim")
    assert state(root, study=study).failed == {"samples": "a worker died"}


def test_a_run_is_running_where_its_process_is_seen(root):
    store = open_store(root, TWO)
    with store.lock():
        (root / "scores" / TWO.key / "psnr.json").unlink()
        found = state(root)
        assert (found.state, found.holder.pid, found.written) == ("running", os.getpid(), ())
        store.write(2, np.zeros((16, 16, 3), np.uint8), meta={})
        os.utime(store.file(2), (found.holder.since.timestamp() + 9,) * 2)
        assert state(root).written == (found.holder.since.timestamp() + 9,)
    assert state(root).state == "waiting"


@pytest.mark.parametrize(
    ("pid", "expected"),
    [
        ("12 2026-03-04T05:06:07+00:00 {here}", "done"),  # killed, on this machine
        ("12 2026-03-04T05:06:07+00:00 node7", "held"),  # who knows
        ("12", "held"),
    ],
)
def test_what_a_process_left_is_judged_by_its_host(root, pid, expected):
    import socket

    folder = open_store(root, TWO).path
    (folder / "run.pid").write_text(pid.format(here=socket.gethostname()))
    os.utime(folder, (1000, 1000))
    os.utime(folder / "samples.jsonl", (2000, 2000))
    found = state(root)
    assert (found.state, found.touched) == (expected, 2000)


def test_a_folder_is_its_studies_and_what_else_was_begun(root, monkeypatch):
    studies.write(root, replace(STUDY, runs=(TWO, THREE)))
    other = make_run("digits", settings=SETTINGS)
    fill(root, other, n=1)
    score(root, other, "accuracy@digits")
    score(root, make_run("digits", "pab", SETTINGS), "latency", version=1)  # timed, and no more
    found = of_folder(root)
    by_key = {run.key: run for run in found.runs}
    assert by_key.keys() == {TWO.reference.key, TWO.key, THREE.key, other.key}
    assert found.counts == {"done": 2, "waiting": 2}
    assert (by_key[other.key].finished, by_key[other.key].scored) == (1, ("accuracy@digits",))
    assert {run.key for run, _ in found.jobs} == by_key.keys()
    monkeypatch.setattr(known, "from_dict", lambda content: replace(other, seed=9))
    found = of_folder(root)  # other code, and no study
    assert found.unknown == (other.key,)
    (lost,) = (run for run in found.runs if run.key == other.key)
    assert (lost.finished, lost.wanted, lost.state) == (1, 3, "waiting")


def test_weights_and_prompts_that_are_elsewhere_are_those_of_the_folder(root):
    here = make_run("captioned-digits-skip", "fora(n=2)", SETTINGS)
    there = replace(here, weights="0123456789abcdef", prompts=("one", "two"))
    fill(root, there.reference)
    absent = replace(here, weights="absent", prompts=None)
    shelf = status.shelf.shelf(root)
    assert status._as_there(absent, shelf) == there
    assert status._as_there(replace(absent, seed=1), shelf).weights == "absent"
    assert status._as_there(here, shelf) == here
