"""`--weights random` as a user types it: no download, and marked in everything that is made."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.checkpoints.card import DRY_RUN

GIVEN = "--weights random --steps 3,1 --num-samples 2 --batch-size 2"
SAID = "mean nothing"
MEASURED = """
import atexit, resource, sys
from skipdit_cli.cli import main
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
atexit.register(lambda: print(peak(), file=sys.stderr))
main()
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A machine on which nothing was downloaded."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_sweep_says_it_in_every_file(skipdit, tmp_path):
    done = skipdit(f"cache-sweep --model digits-skip --n 2 --repeats 1 {GIVEN}").ok()
    assert SAID in done.out
    folder = tmp_path / "results" / "random" / "sweeps" / "digits-skip"
    assert not (tmp_path / "results" / "sweeps").exists()
    for name in ("sweep.md", "sweep.tex", "sweep.html"):
        assert SAID in (folder / name).read_text()
        assert "digits-skip (random weights)" in (folder / name).read_text()
    rows = table(folder / "sweep.csv")
    assert [row["model"] for row in rows] == ["digits-skip (random weights)"] * 2
    assert rows[1]["psnr_status"] == "random weights"
    assert rows[1]["latency_s_status"] == "tiny scale"
    again = skipdit(f"cache-sweep --model digits-skip --n 2 --repeats 1 {GIVEN} --json").ok()
    record = json.loads(again.out)["rows"][1]
    assert record["model"] == "digits-skip (random weights)"
    assert record["psnr"]["status"] == "random weights"
    (key,) = record["runs"]
    scored = skipdit("evaluate", key, "--metrics", "psnr").ok()
    assert "digits-skip (random weights)" in scored.out
    (score,) = json.loads(skipdit("evaluate", key, "--metrics", "psnr", "--json").ok().out)
    assert SAID in score["note"]
    assert score["value"] is not None


def test_a_sample_says_it_and_a_plan_takes_it(skipdit):
    done = skipdit(f"sample --model moving-digits {GIVEN}").ok()
    assert SAID in done.out
    (row,) = json.loads(skipdit("plan --model digits --weights random --json").ok().out)["rows"]
    assert row["run"]["weights"] == "random"


@pytest.mark.slow
def test_a_plan_lacks_nothing(skipdit):
    for model in ("dit-xl-2-skip", "latte-skip", "hunyuan-dit"):
        (row,) = json.loads(skipdit(f"plan --model {model} --weights random --json").ok().out)[
            "rows"
        ]
        assert row["missing"] == ["samples: 16 of 16"]
    rows = json.loads(skipdit("plan table8 --scale paper --weights random --json").ok().out)["rows"]
    assert [row["missing"] for row in rows] == [[]] * len(rows)


@pytest.mark.slow
def test_a_recipe_as_a_dry_run(skipdit, tmp_path):
    """Beside the real one: no row, file of samples or number of one is taken for the other's."""
    real = "cache-sweep smoke --scale tiny --steps 3,1 --num-samples 2 --repeats 0"
    skipdit(real).ok()
    before = skipdit("report smoke --scale tiny --set steps=3,1 --set num_samples=2").ok().out
    file = tmp_path / "results" / "tiny" / "smoke.md"
    written = file.read_text()
    done = skipdit(f"{real} --weights random").ok()
    assert file.read_text() == written
    assert "(tiny scale, random weights)" in done.out
    assert SAID in done.out
    given = "smoke --scale tiny --set steps=3,1 --set num_samples=2"
    told = skipdit(f"report {given} --set weights=random").ok().out
    assert all(
        " (random weights)" in line
        for line in told.splitlines()
        if "PSNR" not in line and line.startswith("| ")
    )
    assert skipdit(f"report {given}").ok().out == before
    rows = table(tmp_path / "results" / "tiny" / "smoke.csv")
    assert not any("random" in row["method"] for row in rows)
    files = [*(tmp_path / "results" / "random" / "tiny").iterdir()]
    made = {path: path.read_bytes() for path in files}
    kept = skipdit("report smoke --scale tiny --set weights=random")  # 128 samples: none are here
    assert (kept.code, "not run" in kept.out) == (0, True)
    assert "smoke.csv: no files (it has numbers, and nothing of these settings" in kept.err
    skipdit("report smoke --scale tiny --set weights=random --format html").failed(
        1, "it has numbers"
    )
    assert {path: path.read_bytes() for path in files} == made
    scored = skipdit(f"evaluate {given} --set weights=random").ok().out
    assert "(random weights)" in scored


def test_what_cannot_be(skipdit, tmp_path):
    skipdit("cache-sweep smoke --set weights=mine.pt").failed(2, "weights 'mine.pt'", "random")
    (tmp_path / "mine.pt").touch()
    skipdit("plan --model digits --weights mine.pt").ok()  # a file is no setting
    skipdit("cache-sweep smoke --weights mine.pt").failed(2, "--weights", "recipe")


def test_a_calibration_of_random_weights_is_tried_and_not_written(skipdit, tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    given = "--model digits --weights random --steps 8 --num-samples 2 --batch-size 2"
    done = skipdit(f"analyze calibrate --method mag-cache {given}").ok()
    assert done.out == f"mag-cache on digits: nothing is written; {DRY_RUN}\n"
    assert not (tmp_path / "home/calibration").exists()


@pytest.mark.slow
def test_a_full_size_calibration_on_a_processor(skipdit, tmp_path):
    """Two guided steps of DiT-XL/2 with skip branches: watched, probed, six answers tried.

    Beside its weights of 2.9 GB it takes what a sample does, whatever it keeps of features: 3.4 GB
    on an idle machine, and 4.5 were seen on a busy one. A second network would make it 5.8.
    """
    given = "--model dit-xl-2-skip --weights random --steps 2 --num-samples 1 --results"
    asked = f"analyze calibrate --method dp-cache --full 1 {given}"
    started = skipdit.start(asked, tmp_path, program=("-c", MEASURED))
    done = skipdit.wait(started, seconds=500)
    assert done.code == 0, done
    assert done.out == f"dp-cache on dit-xl-2-skip: nothing is written; {DRY_RUN}\n"
    peak = int(done.remarks[-1]) * 1024
    assert 2.85e9 < peak < 5.4e9, f"{peak / 1e9:.2f} GB"
    table = skipdit(f"plan --cache dp-cache(full=1) {given}", tmp_path).ok().out
    assert "| dp-cache full=1 " in table or "| dp-cache(full=1" in table


@pytest.mark.slow
def test_a_full_size_sweep_on_a_processor(skipdit, tmp_path):
    """DiT-XL/2 with skip branches, 256x256, three guided steps; nothing is here but the package."""
    given = "--model dit-xl-2-skip --weights random --steps 3 --num-samples 1 --results"
    sweep = f"cache-sweep --cache skip-cache(n=2,window=1000-0) --repeats 0 {given}"
    done = skipdit(sweep, tmp_path / "one").ok()
    assert "dit-xl-2-skip (random weights)" in done.out
    assert SAID in done.out
    skipdit(f"sample {given}", tmp_path / "other").ok()
    pixels = {}
    for name in ("one", "other"):
        paths = (tmp_path / name / "samples").glob("*/000000.png")
        pixels[name] = {path.parent.name: np.asarray(Image.open(path)) for path in paths}
    [(key, uncached)] = pixels["other"].items()
    assert np.array_equal(pixels["one"].pop(key), uncached)
    [cached] = pixels["one"].values()
    for image in (uncached, cached):
        assert image.shape == (256, 256, 3)
        assert image.std() > 20
        assert len(np.unique(image)) == 256
    assert not np.array_equal(uncached, cached)
