"""status: how far a recipe, a study or a folder is, without a touch to it."""

import json
import shutil
from pathlib import Path

import pytest

from skipdit_cli.recipe.runs import find_run
from skipdit_cli.storage.store import open_store

SMOKE = "cache-sweep --recipe smoke --scale tiny --steps 2"


def tree(folder):
    """Everything in a folder, with its times, as a look at it leaves them."""
    return {
        path: (path.lstat(), path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def alike(before, after):
    stats = ("st_mode", "st_ino", "st_mtime_ns", "st_ctime_ns", "st_size")
    assert before.keys() == after.keys()
    for path, (stat, data) in before.items():
        assert data == after[path][1]
        assert [getattr(stat, s) for s in stats] == [getattr(after[path][0], s) for s in stats]


@pytest.fixture
def root(swept, tmp_path):
    return shutil.copytree(swept[0], tmp_path / "results")


def test_a_study_is_done_and_nothing_is_touched(skipdit, root, table):
    (root / "samples" / "0123456789abcdef").mkdir()
    before = tree(root.parent)
    for words in ("status", "status digits-skip", "status --results results"):
        lines = table(skipdit(words).ok().out)
        assert [line["run"] for line in lines] == [
            *("no cache (n=1)", "skip-cache n=2", "skip-cache n=3")
        ]
        assert {(line["samples"], line["state"]) for line in lines} == {("3 / 3", "done")}
    alike(before, tree(root.parent))
    skipdit("status nothing").failed(2, "unknown recipe or study 'nothing'")
    skipdit("status digits-skip --set steps=2").failed(2, "--set is for recipes")


def test_a_folder_that_is_not_there_is_not_made(skipdit, tmp_path):
    skipdit("status").failed(3, "results: no run is there yet")
    done = skipdit("status --recipe smoke --scale tiny --gpu a100")
    done.failed(3, "3 of 3 runs are not done (6 samples, 4 scores, 3 timed loops left)")
    assert "3 waiting; 0 of 3 loops timed\n" in done.out
    assert "on A100: sampling" in done.out
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_on_its_way(skipdit, tmp_path, table):
    skipdit(f"{SMOKE} --repeats 0").ok()
    asked = "status smoke --scale tiny --set steps=2"
    done = skipdit(asked)
    done.failed(3, "0 of 3 runs are not done (3 timed loops left)")
    runs = [line["key"] for line in table(done.out)]
    store = open_store(Path("results"), find_run(Path("results"), runs[1]))
    store.file(0).unlink()  # a file is not looked at
    lines = (store.path / "samples.jsonl").read_text().splitlines(keepends=True)
    with store.lock():
        (store.path / "samples.jsonl").write_text(lines[0])
        before = tree(tmp_path)
        told = skipdit(f"{asked} --json")
        alike(before, tree(tmp_path))
    told.failed(3, "1 of 3 runs are not done (1 samples, 3 timed loops left)")
    content = json.loads(told.out)
    assert (content["done"], content["counts"]) == (False, {"done": 2, "running": 1})
    run = content["runs"][1]
    assert (run["samples"], run["wanted"], run["state"]) == (1, 2, "running")
    assert run["holder"]["pid"] > 0
    assert content["left"]["samples"] == 1
    skipdit(SMOKE).ok()
    assert "3 done; 3 of 3 loops timed" in skipdit(asked).ok().out
    assert skipdit(f"{asked} --workers 2").ok().out == skipdit(asked).out


@pytest.mark.slow
def test_a_process_at_work_is_told_of_until_it_is_killed(skipdit, wait_for, tmp_path):
    line = "sample --model digits-skip --num-samples 100000 --batch-size 2 --steps 4"
    process = skipdit.start(line)
    try:
        wait_for(lambda: len(list(tmp_path.glob("results/samples/*/*.png"))) >= 20)
        done = skipdit("status")
    finally:
        process.kill()
        process.communicate()
    done.failed(3, "1 of 1 runs are not done")
    assert f"process {process.pid} since " in done.out
    assert " left by the pace of its files\n" in done.out
    assert "1 running" in done.out
    done = skipdit("status")
    assert "1 waiting" in done.out
    assert "process" not in done.out
