"""What is on disk, run by run: of this code and of other, whole, in part, or scores alone."""

from dataclasses import replace

import numpy as np
import pytest

from skipdit_cli import registry
from skipdit_cli.errors import SkipditWarning, UsageError
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.storage.results import Result, write_result
from skipdit_cli.storage.shelf import compared_with, find, of_cache, one, shelf
from skipdit_cli.storage.store import open_store

SETTINGS = {"sampler": "ddim", "steps": "4", "num_samples": 3}
TWO = make_run("digits-skip", "skip-cache(n=2,window=900-50)", SETTINGS)
THREE = make_run("digits-skip", "skip-cache(n=3,window=700-50)", SETTINGS)
FORA = make_run("digits", "fora(n=2)", SETTINGS)
TIMED = make_run("digits", "pab", SETTINGS)


def fill(root, run, n=3):
    store = open_store(root, run)
    with store.lock():
        for index in range(n):
            store.write(index, np.full((16, 16, 3), index, np.uint8), meta={"class": index})


def score(root, run, metric="psnr", *, reference=None):
    write_result(root, Result(metric=metric, value=1, unit="", n=3, run=run, reference=reference))


@pytest.fixture
def root(tmp_path):
    for run in (TWO.reference, TWO, FORA.reference, FORA):
        fill(tmp_path, run)
    fill(tmp_path, THREE, n=2)
    score(tmp_path, TWO.key, reference=TWO.reference.key)
    return tmp_path


def keys(runs):
    return {run.key for run in runs}


def by_key(root):
    return {run.key: run for run in shelf(root)}


def test_every_run_is_there_with_what_is_there_of_it(root):
    runs = by_key(root)
    assert runs.keys() == {
        *(TWO.key, THREE.key, FORA.key),
        *(TWO.reference.key, FORA.reference.key),
    }
    two, three = runs[TWO.key], runs[THREE.key]
    assert (two.model, two.cache) == ("digits-skip", TWO.cache.short)
    assert (two.there, two.wanted, list(two.results)) == ([0, 1, 2], 3, ["psnr"])
    assert (three.there, three.wanted, three.results) == ([0, 1], 3, {})
    (two.store.path / "000001.png").unlink()
    assert by_key(root)[TWO.key].there == [0, 2]


def test_a_run_of_other_code_is_read_like_any(root, monkeypatch):
    old = FORA.key
    version = registry.version

    def newer(kind, name):
        return 99 if name == "fora" else version(kind, name)

    monkeypatch.setattr(registry, "version", newer)
    now = replace(FORA)  # whose key is not that of the samples
    assert now.key != old
    run = by_key(root)[old]
    assert (run.cache, run.there) == (FORA.cache.short, [0, 1, 2])
    assert run.store.read(2).max() == 2
    fill(root, now)
    compared = compared_with(by_key(root)[FORA.reference.key], shelf(root))
    assert keys(compared) == {old, now.key}  # a method's version is not its reference's


def test_scores_alone_and_what_cannot_be_read_are_runs_too(root):
    score(root, TIMED.key, "latency", reference=TIMED.reference.key)
    (root / "samples" / TWO.key / "run.json").write_text("{}")
    with pytest.warns(SkipditWarning, match="counts as absent"):
        runs = by_key(root)
    timed, damaged = runs[TIMED.key], runs[TWO.key]
    assert (timed.model, timed.cache, timed.there, timed.wanted) == ("", "", [], None)
    assert list(timed.results) == ["latency"]
    assert (damaged.model, damaged.there) == ("", [0, 1, 2])


def test_a_lock_alone_is_no_run(root):
    folder = root / "samples" / "0123456789abcdef"
    folder.mkdir()
    (folder / "run.lock").touch()
    assert folder.name not in by_key(root)
    assert shelf(root / "nowhere") == []


def test_sizes_by_hand(root):
    folder = root / "samples" / TWO.key
    (folder / "features" / "a").mkdir(parents=True)
    (folder / "features" / "a" / "b.safetensors").write_bytes(bytes(700))
    (folder / "previews").mkdir()
    (folder / "previews" / "000000.mp4").write_bytes(bytes(50))
    (folder / "trajectory.safetensors").write_bytes(bytes(9))
    sizes = by_key(root)[TWO.key].sizes
    assert (sizes["features"], sizes["previews"], sizes["trajectory"]) == (700, 50, 9)
    assert sizes["samples"] == sum(path.stat().st_size for path in folder.glob("*.png"))
    assert sizes["scores"] == (root / "scores" / TWO.key / "psnr.json").stat().st_size
    assert sum(sizes.values()) == sum(
        path.stat().st_size for path in root.glob(f"*/{TWO.key}/**/*") if path.is_file()
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (TWO.key, {TWO.key}),
        (TWO.key[:7], {TWO.key}),
        ("skip-cache", {TWO.key, THREE.key}),
        ("skip-cache(n=2)", {TWO.key}),
        ("skip-cache(window=700-50)", {THREE.key}),
        ("skip-cache(n=2,window=700-50)", set()),
        ("none", {TWO.reference.key, FORA.reference.key}),
        ("pab", set()),
    ],
)
def test_a_run_is_found_by_its_key_or_by_its_settings(root, target, expected):
    assert keys(find(target, shelf(root))) == expected


def test_what_names_no_run_or_several_is_told(root):
    with pytest.raises(UsageError, match="skip-cache is ambiguous; name one of "):
        one("skip-cache", shelf(root), place="results")
    with pytest.raises(UsageError, match="no run of 000 is here; name one of "):
        one("000", shelf(root), place="results")
    with pytest.raises(UsageError, match="there are no runs here yet"):
        one("none", [], place="results")
    with pytest.raises(UsageError, match="--cache: unknown cache 'foar'; did you mean 'fora'"):
        of_cache("foar", shelf(root), place="--cache")


def test_what_is_compared_with_a_reference(root, monkeypatch):
    runs = by_key(root)
    assert keys(compared_with(runs[TWO.reference.key], runs.values())) == {TWO.key, THREE.key}
    assert keys(compared_with(runs[FORA.reference.key], runs.values())) == {FORA.key}
    assert compared_with(runs[TWO.key], runs.values()) == []
    other = replace(TWO, seed=1)
    fill(root, other)
    assert other.key not in keys(compared_with(runs[TWO.reference.key], shelf(root)))
    score(root, TIMED.key, "latency", reference=TWO.reference.key)  # all that is left of a run
    assert TIMED.key in keys(compared_with(runs[TWO.reference.key], shelf(root)))
    before = by_key(root)[FORA.reference.key]
    version = registry.version
    monkeypatch.setattr(registry, "version", lambda *name: 9 if "none" in name else version(*name))
    fill(root, replace(FORA.reference))
    assert len([run for run in shelf(root) if (run.model, run.cache) == ("digits", "none")]) == 2
    assert keys(compared_with(before, shelf(root))) == {FORA.key}  # not the other reference
