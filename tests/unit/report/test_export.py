"""Samples given away: the very pixels, named safely, and blind ones tell nothing of their run."""

import csv
import io
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.errors import StoreError, UsageError
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.report.export import Export, plan, write
from skipdit_cli.storage import codec
from skipdit_cli.storage.results import Result, write_result
from skipdit_cli.storage.shelf import shelf
from skipdit_cli.storage.store import open_store

SETTINGS = {"sampler": "ddim", "steps": "4", "num_samples": 3}
IMAGES = [make_run("digits-skip", f"skip-cache(n={n})", SETTINGS) for n in (2, 3)]
CLIPS = make_run("captioned-digits-skip", "fora(n=2)", SETTINGS)
PROMPTS = ["a/b: c", "A-B C", "../x" * 99]


def pixels(run, index):
    shape = (4, 16, 16, 3) if run is CLIPS else (16, 16, 3)
    seed = int(run.key[:8], 16) + index
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def root(tmp_path):
    for run in (IMAGES[0].reference, *IMAGES, CLIPS):
        store = open_store(tmp_path / "results", run)
        with store.lock():
            for i in range(3):
                meta = {"prompt": PROMPTS[i]} if run is CLIPS else {"class": 7 - i}
                store.write(i, pixels(run, i), meta=meta)
    for run in IMAGES:
        scores = Result(metric="psnr", value=2, unit="dB", n=3, run=run.key, scores=(1.0, 2.0, 3.0))
        write_result(tmp_path / "results", scores)
    return tmp_path / "results"


def shelved(root, *runs):
    by_key = {run.key: run for run in shelf(root)}
    return [by_key[run.key] for run in runs]


def export(root, *runs, **how):
    given = Export(**{"folder": root.parent / "out"} | how)
    list(write(plan(shelved(root, *runs), given), given))
    return given.folder


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def manifest(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_the_very_pixels_of_images_and_what_they_are(root):
    first = IMAGES[0]
    out = export(root, first, name="{index:03d}-{class}")
    assert files(out).keys() == {"000-7.png", "001-6.png", "002-5.png", "manifest.csv"}
    for i, line in enumerate(manifest(out / "manifest.csv")):
        assert (np.array(Image.open(out / line["file"])) == pixels(first, i)).all()
        assert line == {
            "file": f"00{i}-{7 - i}.png",
            "run": first.key,
            "cache": first.cache.short,
            "model": "digits-skip",
            "index": str(i),
            "seed": "0",
            "class": str(7 - i),
            "psnr": str(i + 1.0),
        }


def test_several_runs_have_a_folder_each_and_no_score_is_made_up(root):
    out = export(root, IMAGES[0].reference, IMAGES[1])
    lines = manifest(out / "manifest.csv")
    assert [line["file"] for line in lines] == [
        *(f"none/000{i}.png" for i in range(3)),
        *(f"{IMAGES[1].cache.short}/000{i}.png" for i in range(3)),
    ]
    assert [line["psnr"] for line in lines] == ["", "", "", "1.0", "2.0", "3.0"]


def test_runs_that_are_called_alike_are_told_apart(root):
    other = replace(IMAGES[0], seed=1)
    with open_store(root, other).lock():
        open_store(root, other).write(0, pixels(other, 0), meta={"class": 1})
    out = export(root, IMAGES[0], other)
    spec = IMAGES[0].cache.short
    assert {path.name for path in out.iterdir() if path.is_dir()} == {
        f"{spec}-{IMAGES[0].key[:8]}",
        f"{spec}-{other.key[:8]}",
    }


def test_clips_in_every_format(root, tmp_path):
    out = export(root, CLIPS, name="{prompt}")
    assert len(codec.read_clip(out / "a-b-c.mp4")) == 4
    assert [line["file"] for line in manifest(out / "manifest.csv")][:2] == [
        "a-b-c.mp4",
        "A-B-C-2.mp4",  # a file system may take the two for the same
    ]
    assert [line["prompt"] for line in manifest(out / "manifest.csv")] == PROMPTS
    strip = np.array(
        Image.open(export(root, CLIPS, kind="png", folder=tmp_path / "p") / "0001.png")
    )
    assert (strip == np.concatenate(list(pixels(CLIPS, 1)), axis=1)).all()
    with Image.open(export(root, CLIPS, kind="gif", folder=tmp_path / "g") / "0001.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (4, (16, 16), 120)


def test_a_blind_export_tells_nothing_of_its_runs(root, tmp_path):
    runs = (IMAGES[0].reference, *IMAGES)
    out = export(root, *runs, blind=True, seed=3)
    found = files(out)
    assert {name.partition("/")[0] for name in found} == {"A", "B", "C", "manifest.csv"}
    everything = "\n".join(found).encode() + b"\n".join(found.values())
    for run in runs:
        for word in (run.key, run.key[:8], run.cache.name, run.model, "psnr"):
            assert word.encode() not in everything
    for name, data in found.items():
        if name.endswith(".png"):
            assert chunks(data) == {b"IHDR", b"IDAT", b"IEND"}
    assert len({path.stat().st_mtime for path in [out, *out.rglob("*")]}) == 1
    assert manifest(out / "manifest.csv")[0] == {"file": "A/0000.png", "index": "0", "class": "7"}
    key = tmp_path / "out-key.csv"
    assert [path for path in out.rglob("*") if path.name == key.name] == []
    of = {run.key: run for run in runs}
    for line in manifest(key):
        run = of[line["run"]]
        assert line["cache"] == run.cache.short
        shown = np.array(Image.open(out / line["file"]))
        assert (shown == pixels(run, int(line["index"]))).all()


def chunks(data):
    """The kinds of chunks of a PNG."""
    kinds, place = set(), 8
    while place < len(data):
        kinds.add(data[place + 4 : place + 8])
        place += 12 + int.from_bytes(data[place : place + 4], "big")
    return kinds


def test_the_seed_draws_the_names(root, tmp_path):
    runs = (IMAGES[0].reference, *IMAGES)

    def drawn(seed, name):
        export(root, *runs, blind=True, seed=seed, folder=tmp_path / name)
        return [line["run"] for line in manifest(tmp_path / f"{name}-key.csv")]

    assert drawn(1, "a") == drawn(1, "b")
    assert len({tuple(drawn(seed, f"s{seed}")) for seed in range(12)}) > 3


def test_blind_runs_show_the_samples_that_all_have(root):
    (root / "samples" / IMAGES[1].key / "000001.png").unlink()
    lines = manifest(export(root, *IMAGES, blind=True) / "manifest.csv")
    assert [line["index"] for line in lines] == ["0", "2"] * 2


@pytest.mark.parametrize("field", ["run", "model", "cache", "seed"])
def test_a_blind_name_cannot_tell_of_the_run(root, field):
    with pytest.raises(UsageError, match=r"no field .* where nothing may tell of the run"):
        export(root, *IMAGES, blind=True, name=f"{{index}}-{{{field}}}")


def test_what_was_stopped_goes_on(root):
    given = Export(folder=root.parent / "out")
    samples = plan(shelved(root, *IMAGES), given)
    started = write(samples, given)
    first = next(started)
    started.close()
    (first.parent / ".0001.png.77.tmp").write_bytes(b"half")  # what a kill leaves
    stamp = first.stat().st_mtime_ns
    assert not (given.folder / "manifest.csv").exists()
    assert len(list(write(samples, given))) == 6
    assert first.stat().st_mtime_ns == stamp
    assert len(manifest(given.folder / "manifest.csv")) == 6
    assert not list(given.folder.rglob(".*"))


def test_nothing_of_others_is_overwritten(root, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"there are other files in it, as notes.txt"):
        export(root, IMAGES[0])
    assert files(out) == {"notes.txt": b"mine"}
    (out / "notes.txt").rename(out / "0001.png")
    with pytest.raises(UsageError, match=r"0001.png: is there already, and is another file"):
        export(root, IMAGES[0])
    assert (out / "0001.png").read_bytes() == b"mine"
    (tmp_path / "blind-key.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"blind-key.csv: is there already"):
        export(root, *IMAGES, blind=True, folder=tmp_path / "blind")
    assert not os.path.exists(tmp_path / "blind")


def test_what_cannot_be_given_away_is_told(root):
    with pytest.raises(UsageError, match=r"--format mp4: the samples of .* are images; take png"):
        export(root, IMAGES[0], kind="mp4")
    with pytest.raises(UsageError, match=r"--name: samples of digits-skip have no \{prompt\}"):
        export(root, IMAGES[0], name="{prompt}")
    sample = root / "samples" / IMAGES[0].key / "000001.png"
    sample.write_bytes(sample.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match="the file is damaged"):
        export(root, IMAGES[0])
    for path in sample.parent.glob("*.png"):
        path.unlink()
    with pytest.raises(UsageError, match=f"run {IMAGES[0].key} has no samples; make them"):
        export(root, IMAGES[0])
