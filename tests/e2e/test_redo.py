"""--redo: what was made by code that has changed since is made again, and nothing else is."""

import json

import pytest

from skipdit_cli import registry

FEW = "--steps 4 --num-samples 2 --batch-size 2"
SAMPLE = f"sample --model digits {FEW} --cache"
SWEEP = f"cache-sweep --model digits --method fora --n 2 --metrics psnr --repeats 1 {FEW}"


@pytest.fixture
def changed(monkeypatch):
    """changed(): FORA from now on reuses nothing, so that its samples are the uncached ones."""

    def change():
        fora = registry.load("caches", "fora")

        def nothing(settings, layout, timesteps, *, guided):
            return [frozenset()] * len(timesteps)

        monkeypatch.setattr(fora, "reused", nothing)

    return change


def runs(folder):
    """Cache of every run -> its key."""
    files = (folder / "results" / "samples").glob("*/run.json")
    return {json.loads(f.read_text())["run"]["cache"]: f.parent.name for f in files}


def content(folder, key):
    """Every file of a run, but for its lock."""
    files = [*(folder / "results").glob(f"*/{key}/**/*")]
    return {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in files if f.suffix in ENDINGS}


ENDINGS = (".png", ".json", ".jsonl", ".npz", ".safetensors")


def psnr(outcome, table):
    line = table(outcome.ok().out)[-1]
    return next(value for name, value in line.items() if name.startswith("PSNR"))


def test_samples_are_made_again_with_their_scores(skipdit, tmp_path, changed):
    for cache in ("none", "fora(n=2)"):
        skipdit(SAMPLE, cache).ok()
    plain, cached = (
        next(key for name, key in runs(tmp_path).items() if name.startswith(each))
        for each in ("none", "fora")
    )
    skipdit(f"evaluate {cached} --metrics psnr,ssim").ok()
    first, others = ((tmp_path / "results" / "samples" / key) for key in (cached, plain))
    before = content(tmp_path, plain)
    old = (first / "000000.png").read_bytes()
    assert old != (others / "000000.png").read_bytes()
    changed()
    skipdit(SAMPLE, "fora(n=2)").ok()
    assert (first / "000000.png").read_bytes() == old
    done = skipdit(f"{SAMPLE} fora(n=2) --redo")
    assert done.code == 0, done
    told = f"removed 2 samples and 2 scores of digits, fora(n=2,mlp=true) ({cached})"
    assert told in done.err.splitlines()
    assert (first / "000000.png").read_bytes() == (others / "000000.png").read_bytes()
    assert not list((tmp_path / "results" / "scores").glob(f"{cached}/*"))
    assert not (first / "features").exists()
    assert content(tmp_path, plain) == before


@pytest.mark.slow
def test_a_sweep_is_made_again(skipdit, tmp_path, changed, table):
    old = psnr(skipdit(SWEEP), table)
    changed()
    assert psnr(skipdit(SWEEP), table) == old
    done = skipdit(f"{SWEEP} --redo")
    assert done.code == 0, done
    again = [line for line in done.err.splitlines() if line.startswith("removed ")]
    assert [line.split(", ")[0] for line in again] == [
        "removed 2 samples and 3 scores of digits",  # the reference: latency, speedup, memory
        "removed 2 samples and 4 scores of digits",
    ]
    new = next(v for name, v in table(done.out)[-1].items() if name.startswith("PSNR"))
    assert float(old.split()[0]) < float(new.split()[0]) == 100  # of the same samples


@pytest.mark.slow
def test_scores_are_made_again(skipdit, tmp_path, monkeypatch, table):
    skipdit(SWEEP).ok()
    key = next(key for cache, key in runs(tmp_path).items() if cache != "none")
    command = f"evaluate {key} --metrics psnr"
    before = {f: v for f, v in content(tmp_path, key).items() if f.suffix == ".png"}
    assert before
    old = table(skipdit(command).ok().out)[0]["value"]
    monkeypatch.setattr(registry.load("metrics", "psnr"), "score", lambda reference, sample: 7.0)
    assert table(skipdit(command).ok().out)[0]["value"] == old
    done = skipdit(f"{command} --redo")
    assert f"removed 1 scores of digits, fora(n=2,mlp=true) ({key})" in done.err.splitlines()
    assert table(done.out)[0]["value"].startswith("7 ")
    assert {f: v for f, v in content(tmp_path, key).items() if f.suffix == ".png"} == before
    assert (tmp_path / "results" / "scores" / key / "latency.json").is_file()


@pytest.mark.slow
def test_a_recipe_is_made_again_with_its_timings(skipdit, tmp_path):
    command = "cache-sweep smoke --scale tiny --repeats 1 --num-samples 2 --steps 3"
    skipdit(command).ok()
    stamps = {f: f.stat().st_mtime_ns for f in (tmp_path / "results" / "scores").glob("*/*")}
    assert {"psnr.json", "latency.json"} <= {f.name for f in stamps}
    assert skipdit(f"{command} --redo").code == 0
    assert stamps.keys() == set((tmp_path / "results" / "scores").glob("*/*"))
    assert [f for f, stamp in stamps.items() if f.stat().st_mtime_ns == stamp] == []


def test_nothing_is_removed_that_could_not_be_made_again(skipdit, tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    run = "sample --model taichi --steps 2 --num-samples 1 --batch-size 1"
    skipdit(run).failed(4)
    planned = json.loads(skipdit("plan --model taichi --steps 2 --num-samples 1 --json").out)
    kept = tmp_path / "results" / "samples" / planned["rows"][0]["key"] / "000000.png"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"")
    skipdit(f"{run} --redo").failed(4, "the weights of taichi are not here")
    assert kept.is_file()
