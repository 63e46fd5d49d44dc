"""Whatever ends a command, what it had finished is kept, and the same command finishes the rest."""

import errno
import json
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from skipdit_cli.errors import SkipditError

SAMPLE = "sample --model digits-skip --num-samples 6 --batch-size 1 --steps 3"
SWEEP = (
    "cache-sweep --model digits-skip --n 2..3 --steps 8 --num-samples 16 --batch-size 2 --repeats 0"
)


def finished(root: Path) -> int:
    """How many samples the journals have, while another process may write."""
    return sum(path.read_bytes().count(b"\n") for path in root.glob("samples/*/samples.jsonl"))


def written(root: Path) -> dict[Path, int]:
    """When every sample was written."""
    found = [*root.glob("samples/*/*.png"), *root.glob("samples/*/*.mkv")]
    return {path: path.stat().st_mtime_ns for path in found}


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.suffix in (".tmp", ".pid")]


@pytest.fixture
def full_after(monkeypatch):
    """full_after(n): the disk has room for n files more, and then none."""

    def begin(room: int):
        real, left = os.replace, [room]

        def replace(*paths):
            if not left[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left[0] -= 1
            return real(*paths)

        monkeypatch.setattr(os, "replace", replace)
        return lambda: monkeypatch.setattr(os, "replace", real)

    return begin


def test_a_full_disk(skipdit, tmp_path, samples, full_after):
    skipdit(f"{SAMPLE} --results whole").ok()
    results = tmp_path / "results"
    # run.pid, run.json, four samples and their lines, the trajectory, run.json again
    free = full_after(2 + 2 * 4 + 2)
    done = skipdit(SAMPLE)
    done.failed(
        1, "no space left on device", "finished samples are kept: 4", "run the same command"
    )
    assert "results/samples/" in done.err
    before = written(results)
    assert len(before) == finished(results) == 4
    assert leftovers(results) == []

    skipdit(SAMPLE).failed(1, "no space left on device")  # still full: still one line
    assert written(results) == before
    free()
    skipdit(SAMPLE).ok()
    after = written(results)
    assert {path: after[path] for path in before} == before  # only what was missing is made
    assert samples(results) == samples(tmp_path / "whole")


def test_a_full_disk_while_a_sweep_scores(skipdit, tmp_path, full_after, monkeypatch):
    """Samples are made, their scores find no room: they are not made again."""
    given = "cache-sweep --model digits-skip --n 2 --steps 3 --num-samples 2 --batch-size 2"
    skipdit("plan --model digits-skip --n 2 --steps 3").ok()  # what is counted is kept as well
    # the study; pid, json twice, two samples and their lines, trajectory
    free = full_after(1 + 2 * (3 + 2 * 2 + 1))
    skipdit(f"{given} --repeats 0").failed(1, "results/scores/", "no space left", "again")
    before = written(tmp_path / "results")
    assert len(before) == 4
    free()
    skipdit(f"{given} --repeats 0").ok()
    assert written(tmp_path / "results") == before


@pytest.mark.slow
def test_a_disk_that_is_really_full(skipdit, tmp_path, samples):
    """No file may grow beyond a limit of the operating system, which the journal meets first."""
    program = (
        "import resource, sys\n"
        "from skipdit_cli.cli import main\n"
        "sys.dont_write_bytecode = True\n"  # Python keeps what it could write of a module
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))\n"
        "main()"
    )
    given = "sample --model digits-skip --num-samples 60 --batch-size 1 --steps 2"
    done = skipdit.wait(skipdit.start(given, program=("-c", program)))
    done.failed(1, "results/samples/", "finished samples are kept: ", "free some space")
    kept = int(re.search(r"finished samples are kept: (\d+)", done.err)[1])
    assert 10 < kept < 60
    before = samples(tmp_path / "results")
    skipdit(given).ok()
    after = samples(tmp_path / "results")
    assert len(after) == 60
    assert {name: after[name] for name in before} == before
    skipdit(f"{given} --results whole").ok()
    assert after == samples(tmp_path / "whole")


@pytest.mark.parametrize(
    "command",
    [
        SAMPLE,
        "cache-sweep --model digits-skip --n 2 --steps 2 --num-samples 1 --batch-size 1",
        "cache-sweep --recipe smoke --scale tiny",
        "profile --model digits-skip --n 2 --steps 2 --batch-size 1",
        "report smoke --scale tiny",
    ],
)
def test_a_results_folder_that_is_a_file(skipdit, tmp_path, command):
    path = tmp_path / "results"
    path.write_text("mine")
    begun = time.monotonic()
    done = skipdit(command)
    assert done.code == 1
    assert done.remarks[0].startswith("skipdit: results")
    assert len(done.remarks) == 1
    assert path.read_text() == "mine"
    assert "timing" not in done.err  # it is found before anything is computed
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_results_folder_that_may_not_be_written(skipdit, monkeypatch, number):
    """Simulated, because nothing is forbidden to root."""

    def forbidden(**_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("skipdit_cli.storage.disk.tempfile.TemporaryFile", forbidden)
    skipdit(SAMPLE).failed(1, f"results: {os.strerror(number).lower()}", "take another one")


def test_a_damaged_sample(skipdit, tmp_path, samples):
    skipdit(SAMPLE).ok()
    results = tmp_path / "results"
    before = samples(results)
    names = sorted(before)
    key = names[0].split("/")[0]
    (results / "samples" / names[2]).write_bytes(before[names[2]][:-20])
    (results / "samples" / names[4]).unlink()
    skipdit(f"evaluate {key}").failed(
        3, f"results/samples/{key}: missing samples 2, 4 (2 of 6, 1 damaged)", "makes only these"
    )
    untouched = written(results)[results / "samples" / names[0]]
    done = skipdit(SAMPLE)
    assert done.code == 0
    (remark,) = done.remarks
    assert remark.endswith(
        f"samples/{key}: 1 of 6 samples are damaged, first 2; they are made again"
    )
    assert samples(results) == before
    assert written(results)[results / "samples" / names[0]] == untouched
    skipdit(f"evaluate {key} --metrics accuracy@digits").ok()


def test_a_damaged_score(skipdit, tmp_path):
    skipdit(SAMPLE).ok()
    (folder,) = (tmp_path / "results" / "samples").iterdir()
    skipdit(f"evaluate {folder.name} --metrics fid@digits").ok()
    path = tmp_path / "results" / "scores" / folder.name / "fid@digits.json"
    before = json.loads(path.read_text())["value"]
    path.write_text(path.read_text()[:40])
    done = skipdit(f"evaluate {folder.name} --metrics fid@digits")
    (remark,) = done.remarks
    assert "fid@digits.json: is not a readable score" in remark
    assert (done.code, json.loads(path.read_text())["value"]) == (0, before)


@pytest.mark.slow
def test_killed_twice_a_sweep_ends_as_if_undisturbed(skipdit, tmp_path, samples, wait_for, table):
    skipdit(f"{SWEEP} --results whole").ok()
    expected = samples(tmp_path / "whole")
    assert len(expected) == 3 * 16
    results, moment, seen = tmp_path / "results", random.Random(3), 0
    slowly = (  # so that it is not done before it is killed, however late that is
        "import time\n"
        "from skipdit_cli import cli\n"
        "from skipdit_cli.generate import batch\n"
        "make = batch.make\n"
        "batch.make = lambda *a, **k: time.sleep(1) or make(*a, **k)\n"
        "cli.main()"
    )
    for _ in range(2):
        process = skipdit.start(SWEEP, program=("-c", slowly))
        wait_for(lambda: finished(results) > seen or process.poll() is not None)  # noqa: B023
        time.sleep(moment.uniform(0, 1.5))
        process.kill()
        assert skipdit.wait(process).code == -signal.SIGKILL  # it was killed, not finished
        seen = finished(results)
    assert 0 < seen < len(expected)
    kept = {path: stamp for path, stamp in written(results).items() if path.stat().st_size}

    again = skipdit(SWEEP).ok()
    assert samples(results) == expected
    assert leftovers(results) == []
    after = written(results)
    assert sum(after[path] == stamp for path, stamp in kept.items()) >= len(kept) - 2
    whole = table(skipdit(f"{SWEEP} --results whole").ok().out)
    assert table(again.out) == whole


@pytest.mark.slow
def test_a_second_process_and_ctrl_c(skipdit, tmp_path, samples, wait_for):
    """The second waits and says so, the first is not disturbed; Ctrl-C keeps its samples."""
    endless = "sample --model digits-skip --num-samples 100000 --batch-size 1 --steps 2"
    results = tmp_path / "results"
    first = skipdit.start(endless)
    wait_for(lambda: finished(results) > 3 or first.poll() is not None)
    said = tmp_path / "second.txt"
    with said.open("w") as err:
        second = skipdit.start(endless, stderr=err)
    wait_for(lambda: "waiting: " in said.read_text() or second.poll() is not None)
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=120)
    assert second.returncode == 130
    assert f"waiting: process {first.pid} is working on run " in said.read_text()
    skipdit(endless.replace("100000", "2")).ok()  # all that it wants is there
    other = endless.replace("100000", "1") + " --seed 7"
    skipdit(other).ok()  # another run does not wait
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    skipdit.wait(first).failed(130, "interrupted; what was finished is kept")
    assert leftovers(results) == []
    (folder,) = (path for path in (results / "samples").iterdir() if (path / "000001.png").exists())
    count = finished(results) - 1
    before = {name: content for name, content in samples(results).items() if folder.name in name}
    assert len(before) == count >= 3
    skipdit(endless.replace("100000", str(count))).ok()  # and the lock is free again
    assert {n: c for n, c in samples(results).items() if folder.name in n} == before


def test_a_lock_that_a_killed_process_left_is_none(skipdit, tmp_path):
    skipdit(SAMPLE).ok()
    (folder,) = (tmp_path / "results" / "samples").iterdir()
    (folder / "run.lock").touch()
    (folder / "run.pid").write_text("1")
    skipdit(SAMPLE).ok()


def test_a_run_that_fails_keeps_its_row(skipdit, tmp_path, table, monkeypatch):
    """The others are generated, scored and shown; the same command tries the failed one again."""
    from skipdit_cli.generate import batch as generating

    real = generating.make

    def make(own, *arguments, **options):
        if str(own.cache).startswith("skip-cache(n=3"):
            raise SkipditError("a worker process died: killed, or out of memory")
        return real(own, *arguments, **options)

    given = "cache-sweep --model digits-skip --n 2..4 --steps 3 --num-samples 2 --batch-size 2"
    with monkeypatch.context() as patch:
        patch.setattr(generating, "make", make)
        done = skipdit(f"{given} --repeats 0")
        done.failed(3, "1 of 4 runs failed, first skip-cache(n=3", "a worker process died", "again")
    lines = {line["cache"]: line for line in table(done.out)}
    assert lines["skip-cache n=3"]["PSNR (dB) ↑"].startswith("failed")
    assert lines["skip-cache n=3"]["full"] == "1"
    assert float(lines["skip-cache n=4"]["PSNR (dB) ↑"].split()[0]) > 0
    assert "a worker process died" in done.out
    assert (tmp_path / "results" / "sweeps" / "digits-skip" / "sweep-samples.png").is_file()
    before = written(tmp_path / "results")
    lines = {ln["cache"]: ln for ln in table(skipdit(f"{given} --repeats 0").ok().out)}
    assert float(lines["skip-cache n=3"]["PSNR (dB) ↑"].split()[0]) > 0
    after = written(tmp_path / "results")
    assert len(after) == len(before) + 2
    assert {path: after[path] for path in before} == before


def test_out_of_memory(skipdit, monkeypatch):
    import torch

    def lack(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("skipdit_cli.generate.batch._files", lack)
    skipdit("sample --model digits --num-samples 64 --batch-size 64").failed(
        1, "out of memory at batch size 64", "take a smaller --batch-size"
    )
    given = "--num-samples 64 --batch-size 64 --repeats 0"
    done = skipdit(f"cache-sweep --model digits-skip --n 2 {given}")
    done.failed(3, "2 of 2 runs failed", "out of memory at batch size 64")
    assert "failed" in done.out


def test_the_results_of_one_folder_are_those_of_another(skipdit, tmp_path, samples):
    """A results folder can be moved: nothing in it says where it was."""
    skipdit(SAMPLE).ok()
    shutil.move(tmp_path / "results", tmp_path / "moved")
    before = written(tmp_path / "moved")
    skipdit(f"{SAMPLE} --results moved").ok()
    assert written(tmp_path / "moved") == before
    (folder,) = (tmp_path / "moved" / "samples").iterdir()
    assert str(tmp_path) not in (folder / "run.json").read_text()
    assert json.loads((folder / "run.json").read_text())["provenance"]["command"].startswith(
        f"skipdit {SAMPLE}"
    )


def test_runs_of_4_8_and_16_samples_are_one_run_that_grows(skipdit, tmp_path):
    """Without --batch-size: what was made for fewer samples is not made again."""
    seen = {}
    for count in (4, 8, 16):
        skipdit(f"sample --model digits --steps 2 --num-samples {count}").ok()
        (folder,) = (tmp_path / "results" / "samples").iterdir()
        made = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.png")}
        assert len(made) == count
        assert seen.items() <= made.items()
        seen = made
