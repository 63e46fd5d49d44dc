"""evaluate beyond what the embedded classifier sees: every metric, npz files, what is missing."""

import json

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.storage import failures

RUN = "sample --model {} --steps 2 --num-samples 2 --batch-size 2"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without networks."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SKIPDIT_VBENCH_PYTHON", str(tmp_path / "no-python"))
    return tmp_path


def keys(home):
    return [path.name for path in (home / "results" / "samples").iterdir()]


WITHOUT = {
    "digits": {
        "fid": "skipdit download --metrics inception",
        "sfid": "skipdit download --metrics inception",
        "inception-score": "skipdit download --metrics inception",
        "precision": "skipdit download --metrics inception",
        "recall": "skipdit download --metrics inception",
        "kid": "skipdit download --metrics inception",
        "fid@clean": "skipdit download --metrics inception",
        "fd-dinov2": "skipdit download --metrics dinov2-large",
        "cmmd": "skipdit download --metrics clip-336",
        "clip-iqa": "skipdit download --metrics clip",
        "dino-similarity": "skipdit download --metrics dino",
        "dinov2-similarity": "skipdit download --metrics dinov2",
        "lpips": "lpips cannot score 16x16, only 31 px and more",
    },
    "moving-digits": {
        "fvd": "fvd cannot score 8 frames, only 16 and more",
        "fvd@latte": "fvd@latte cannot score 8 frames, only 16 and more",
        "fid@frames": "skipdit download --metrics inception",
        "dinov2-similarity": "skipdit download --metrics dinov2",
        "lpips": "lpips cannot score 16x16, only 31 px and more",
    },
    "captioned-digits": {
        "vbench": "vbench needs VBench's own prompts",
        "vbench.temporal_flickering": "vbench-env`",
        "lpips": "lpips cannot score 16x16, only 31 px and more",
    },
    "painted-digits": {
        "clip-score": "skipdit download --metrics clip",
        "cmmd": "skipdit download --metrics clip-336",
        "fid@coco": "skipdit download --metrics inception",
        "lpips": "lpips cannot score 16x16, only 31 px and more",
    },
}


@pytest.mark.few(1)
@pytest.mark.parametrize("model", WITHOUT)
def test_every_metric_is_scored_or_says_what_it_lacks(skipdit, home, table, model):
    skipdit(RUN.format(model)).ok()
    skipdit(RUN.format(model), "--cache", "fora(n=2)").ok()
    (key,) = (
        path.parent.name
        for path in (home / "results" / "samples").glob("*/run.json")
        if json.loads(path.read_text())["run"]["cache"] != "none"
    )
    done = skipdit(f"evaluate {key} --metrics all").ok()
    lines = {line["metric"]: line for line in table(done.out)}
    notes = [line for line in done.out.splitlines() if line.startswith("[")]
    for metric, part in WITHOUT[model].items():
        status, _, number = lines[metric]["value"].partition(" [")
        assert status in ("needs weights", "failed"), lines[metric]
        note = notes[int(number.rstrip("]")) - 1]
        assert part in note
        reason = failures.read_failure(home / "results", key, metric)
        assert reason == (note.partition(" ")[2] if status == "failed" else "")
        assert not (home / "results" / "scores" / key / f"{metric}.json").exists()
    scored = {"psnr", "ssim", "psnr@videosys", "ssim@videosys", "accuracy@digits"}
    for metric in scored:
        assert float(lines[metric]["value"].split()[0]) >= 0
        kept = json.loads((home / "results" / "scores" / key / f"{metric}.json").read_text())
        assert kept["protocol"] == lines[metric]["protocol"] != ""
        assert kept["n"] == 2
    assert lines["psnr"]["protocol"] != lines["psnr@videosys"]["protocol"]
    # without being asked for all, what cannot be had is left out
    shown = {line["metric"] for line in table(skipdit(f"evaluate {key}").ok().out)}
    assert shown >= {"psnr", "ssim", "accuracy@digits"}
    assert not shown & (WITHOUT[model].keys() | {"psnr@videosys"})


def test_a_metric_that_is_asked_for_by_name_is_told_with_its_command(skipdit, home, table):
    skipdit(RUN.format("digits")).ok()
    (key,) = keys(home)
    done = skipdit(f"evaluate {key} --metrics fid,psnr,sfid")
    done.failed(4, "inception", command := "run `skipdit download --metrics inception` (95.6 MB)")
    values = [line["value"] for line in table(done.out)]
    assert values == ["needs weights [1]", "reference", "needs weights [1]"]
    assert command in done.out
    done = skipdit(f"evaluate {key} --metrics fid,fd-dinov2 --json")
    done.failed(4, "inception", "(and 1 more, as told above)")
    assert [each["status"] for each in json.loads(done.out)] == ["needs weights"] * 2
    skipdit(f"evaluate {key} --metrics all").ok()  # as far as it can
    skipdit(f"evaluate {key} --metrics fvd").failed(2, "--metrics: fvd cannot score samples of")
    skipdit(f"evaluate {key} --metrics vbench.scene").failed(2, "vbench.scene cannot score")
    skipdit(f"evaluate {key} --metrics vbench.scne").failed(2, "did you mean 'vbench.scene'?")


def test_a_run_becomes_an_npz_for_other_tools(skipdit, home, table):
    skipdit(RUN.format("digits"), "--classes", "3,5").ok()
    (key,) = keys(home)
    done = skipdit(f"evaluate {key} --npz out/ours.npz").ok()
    assert done.out == ""
    with np.load("out/ours.npz") as content:
        images, classes = content["arr_0"], content["arr_1"]
    assert (images.dtype, images.shape) == (np.uint8, (2, 16, 16, 3))
    assert classes.tolist() == [3, 5]
    for i, image in enumerate(images):
        stored = Image.open(home / "results" / "samples" / key / f"{i:06d}.png")
        np.testing.assert_array_equal(np.asarray(stored), image)
    # and is scored as any other tool's: without Inception, with the command that brings it
    done = skipdit("evaluate --npz out/ours.npz").ok()
    lines = {line["metric"]: line["value"].partition(" [") for line in table(done.out)}
    adm = ["fid", "inception-score", "kid", "precision", "recall", "sfid"]
    assert lines.keys() == {"clip-iqa", "cmmd", "fd-dinov2", *adm}
    assert {value for value, *_ in lines.values()} == {"needs weights"}
    (note,) = {lines[metric][2].rstrip("]") for metric in adm}
    assert f"[{note}] inception" in done.out


def test_an_npz_that_cannot_be_scored(skipdit, home):
    np.savez("other.npz", images=np.zeros(3))
    skipdit("evaluate --npz other.npz").failed(2, "other.npz", "no npz with images in arr_0")
    skipdit("evaluate --npz absent.npz").failed(2, "absent.npz: no such file")
    np.savez("some.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8))
    skipdit("evaluate --npz some.npz --metrics psnr").failed(
        2, "psnr compares each sample with its original; give the originals with --reference"
    )


def test_clips_do_not_become_an_npz(skipdit, home):
    skipdit(RUN.format("moving-digits")).ok()
    (key,) = keys(home)
    skipdit(f"evaluate {key} --npz a.npz").failed(2, "a.npz: an npz holds images, not clips")
    skipdit("evaluate smoke --scale tiny --npz a.npz").failed(
        2, "--npz: an npz holds one run, and these are"
    )


def test_real_clips_are_made_of_a_folder(skipdit, home):
    skipdit("download --metrics ucf101").failed(
        2, "UCF101", "skipdit download --metrics ucf101 --from FOLDER"
    )
    refused = skipdit("download --metrics ffs")
    assert (refused.code, "its authors' terms" in refused.err.splitlines()[-1]) == (2, True)
    skipdit("download --metrics ffs --from .").failed(4, "download --metrics i3d")
    done = skipdit("doctor")
    assert "metrics: ffs" in done.out
    assert "skipdit download --metrics ffs --accept-license" in done.out
    assert "skipdit download --metrics ucf101 --from FOLDER" in done.out
    assert "vbench-env`" in done.out
