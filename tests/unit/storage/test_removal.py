"""Removal: all of a run or, where it is killed, no part that passes for the whole."""

import os
import pathlib
import shutil
from contextlib import suppress

import numpy as np
import pytest

from skipdit_cli.errors import StoreError
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.storage import lock
from skipdit_cli.storage.failures import write_failure
from skipdit_cli.storage.removal import remove
from skipdit_cli.storage.results import Result, write_result
from skipdit_cli.storage.shelf import shelf
from skipdit_cli.storage.store import open_store

SETTINGS = {"sampler": "ddim", "steps": "4", "num_samples": 3}
TWO, THREE = (make_run("digits-skip", f"skip-cache(n={n})", SETTINGS) for n in (2, 3))


@pytest.fixture
def root(tmp_path):
    for run in (TWO, THREE):
        store = open_store(tmp_path, run)
        with store.lock():
            for index in range(3):
                store.write(index, np.full((16, 16, 3), index, np.uint8), meta={})
        for metric in ("psnr", "latency"):
            result = Result(metric=metric, value=1, unit="", n=3, run=run.key)
            write_result(tmp_path, result)
        write_failure(tmp_path, run.key, "ssim", reason="of memory")
        features = tmp_path / "samples" / run.key / "features" / "psnr-1"
        features.mkdir(parents=True)
        (features / "000000-000003.safetensors").write_bytes(bytes(10))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "table1.csv").write_text("a table")
    return tmp_path


def content(root, *keys):
    """Every file but locks; of some runs only, where keys are given."""
    found = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    found = {path: data for path, data in found.items() if path.name not in lock.FILES}
    return {p: d for p, d in found.items() if not keys or any(key in p.parts for key in keys)}


def test_all_of_a_run_goes_and_nothing_else(root):
    before = content(root)
    assert list(remove(root, [TWO.key])) == [(TWO.key, 2)]
    assert not list(root.glob(f"**/{TWO.key}"))  # no folder, and no lock in it
    gone = content(root, TWO.key)
    assert gone == {}
    assert content(root) == {p: d for p, d in before.items() if TWO.key not in p.parts}
    assert list(remove(root, [TWO.key])) == [(TWO.key, 0)]


def test_a_run_in_progress_keeps_all_that_were_named(root):
    before = content(root)
    with lock.held(root / "samples" / THREE.key):
        with pytest.raises(
            StoreError, match=f"process {os.getpid()} is working on run {THREE.key}"
        ):
            list(remove(root, [TWO.key, THREE.key]))
        assert content(root) == before
    assert len(list(remove(root, [TWO.key, THREE.key]))) == 2
    assert list(content(root)) == [root / "tiny" / "table1.csv"]


class Kill(BaseException):
    pass


def test_killed_at_any_step_it_leaves_nothing_that_passes_for_the_whole(root, tmp_path_factory):
    """Either all samples are there and sound, or none is told of; the same command ends it."""
    left = []
    for step in range(100):
        copy = tmp_path_factory.mktemp("copy") / "results"
        shutil.copytree(root, copy)
        with pytest.MonkeyPatch.context() as patch:
            done = _kill_at(step, patch)
            with suppress(Kill):
                list(remove(copy, [TWO.key]))
        (found,) = [run for run in shelf(copy) if run.key == TWO.key] or [None]
        if found:
            left.append(len(found.there))
            assert found.there in ([], [0, 1, 2])
            assert found.store.missing(found.there) == []
            if not found.there:
                assert found.made == {}
                assert found.results == {}
        assert content(copy, THREE.key).keys() == {
            copy / path.relative_to(root) for path in content(root, THREE.key)
        }
        list(remove(copy, [TWO.key]))
        assert TWO.key not in {run.key for run in shelf(copy)}
        if len(done) <= step:
            break
    assert {0, 3} == set(left)
    assert step > 8


def _kill_at(step, patch):
    """Have what removes a file or folder raise at the step-th call; returns the calls."""
    done = []

    def wrapped(function):
        def call(*arguments, **named):
            if ".tmp" not in str(arguments[0]) and "run.pid" not in str(arguments[0]):
                done.append(arguments[0])
                if len(done) == step + 1:
                    raise Kill
            return function(*arguments, **named)

        return call

    patch.setattr(pathlib.Path, "unlink", wrapped(pathlib.Path.unlink))
    patch.setattr(shutil, "rmtree", wrapped(shutil.rmtree))
    return done
