"""evaluate --samples: what any tool made, scored as the samples of a run are."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.storage import codec

IMAGES = "sample --model digits-skip --steps 3 --num-samples 4 --batch-size 4"
CLIPS = "sample --model moving-digits-skip --steps 2 --num-samples 2 --batch-size 2"
PARITY = {
    "png": (IMAGES, "psnr,ssim,fid@digits,psnr@videosys"),
    "mkv": (CLIPS, "psnr,ssim,fvd@digits"),
}


def noisy(folder, *, name="{}.png", noise=6, count=5):
    """Images of a seed, with more or less noise in them."""
    random, plain = np.random.default_rng(1), np.random.default_rng(0)
    Path(folder).mkdir()
    for i in range(count):
        image = plain.integers(20, 236, (24, 24, 3))
        image += random.integers(-noise, noise + 1, image.shape)
        Image.fromarray(image.astype(np.uint8)).save(Path(folder, name.format(i)))
    return folder


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    noisy("full", noise=0)
    noisy("teacache")
    noisy("other tool", name="run-{:04d}.png", noise=12)


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", PARITY)
def test_exported_samples_score_bit_for_bit_as_their_run(skipdit, kind):
    made, metrics = PARITY[kind]
    run = {"none": "", "skip-cache": ""}
    for cache in run:
        skipdit(f"{made} --cache {cache}").ok()
        skipdit(f"export {cache} --format {kind} --out {cache}").ok()
        with Path(cache, "manifest.csv").open() as file:
            run[cache] = next(csv.DictReader(file))["run"]
    given = f"--metrics {metrics} --json"
    ours = json.loads(skipdit(f"evaluate {run['skip-cache']} {given}").ok().out)
    theirs = json.loads(skipdit(f"evaluate --samples skip-cache --reference none {given}").ok().out)
    same = ("metric", "value", "spread", "interval", "scores", "n", "unit", "protocol", "version")
    assert [{key: each[key] for key in same} for each in theirs] == [
        {key: each[key] for key in same} for each in ours
    ]
    assert all(each["value"] is not None for each in ours)
    assert theirs[0]["compared_with"] == "none, by name"
    assert len(theirs[0]["names"]) == theirs[0]["n"]
    # an npz of the same images, which have no names, gives the same again
    if kind == "png":
        for cache, key in run.items():
            skipdit(f"evaluate {key} --npz {cache}.npz").ok()
        line = f"evaluate --npz skip-cache.npz --reference none.npz {given}"
        packed = json.loads(skipdit(line).ok().out)
        assert packed[0]["compared_with"] == "none.npz, by order"
        assert [each["scores"] for each in packed] == [each["scores"] for each in ours]


def test_several_tools_beside_one_reference(skipdit, folders, table):
    places = ("--samples", "teacache", "--samples", "other tool", "--reference", "full")
    done = skipdit("evaluate", *places, "--out", "scores").ok()
    lines = [(line["samples"], line["metric"], line["n"]) for line in table(done.out)]
    assert lines == [
        *(("teacache", metric, "5") for metric in ("psnr", "ssim")),
        *(("other tool", metric, "5") for metric in ("psnr", "ssim")),
    ]
    assert "Pairs: teacache with full, by name; other tool with full, by order." in done.out
    better, worse = (float(line["value"].split()[0]) for line in table(done.out)[::2])
    assert better > worse + 3
    assert "[" in table(done.out)[0]["95 % interval"]

    written = {path.name for path in Path("scores").iterdir()}
    assert written == {"scores.md", "scores.csv", "scores.html", "scores.json"}
    [first, second] = table(Path("scores/scores.md").read_text())
    assert (first["samples"], second["samples"]) == ("teacache", "other tool")
    assert float(first["PSNR (dB) ↑"].split()[0]) == pytest.approx(better, abs=0.01)
    [record, *_] = json.loads(Path("scores/scores.json").read_text())
    assert (record["samples"], record["names"]) == ("teacache", ["0", "1", "2", "3", "4"])
    assert record["value"] == pytest.approx(better, abs=1e-3)
    with Path("scores/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["psnr_n"]) for row in rows] == [5, 5]
    assert rows[0]["runs"] == record["run"]
    page = Path("scores/scores.html").read_text()
    assert re.findall("<h2[^>]*>(.*?)</h2>", page) == ["Results", "Samples", "How this was made"]
    assert page.count('<img src="data:image/png;base64,') == 3 * 5  # beside their originals
    assert page.count('alt="#3, 3, teacache"') == 1
    score = f"PSNR {record['scores'][3]:.2f} dB"
    assert score in page[page.index('alt="#3, 3, teacache"') :][:200]


def test_a_second_time_nothing_is_scored(skipdit, folders, monkeypatch):
    given = "evaluate --samples teacache --reference full"
    first = skipdit(given).ok()
    with monkeypatch.context() as patch:
        patch.setattr("skipdit_cli.metrics.psnr.score", lambda *pair: 1 / 0)
        assert skipdit(given).ok().out == first.out
    done = skipdit(f"{given} --redo")
    assert "removed 2 scores of teacache" in done.err
    assert done.out == first.out


def test_prompts_and_what_asks_for_them(skipdit, folders, table):
    Path("prompts.txt").write_text("one\ntwo\nthree\nfour\nfive\n")
    given = "evaluate --samples teacache --metrics clip-score"
    done = skipdit(f"{given} --prompts prompts.txt")
    done.failed(4, "skipdit download --metrics clip")
    assert table(done.out)[0]["value"] == "needs weights [1]"
    skipdit(given).failed(
        2, "--metrics: clip-score needs to know", "give the prompts with --prompts"
    )
    Path("prompts.txt").write_text("one\n")
    skipdit(f"{given} --prompts prompts.txt").failed(
        2, "--prompts: teacache has 5 samples, and these are 1 prompts; give one for each"
    )


def test_what_dinov2_sees_is_compared_pair_by_pair(skipdit, folders, tmp_path, table):
    """Through a small network where the published one would be; with itself a folder is at 1."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_attention_heads=2, num_hidden_layers=2, image_size=518, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path / "home" / "metrics" / "dinov2")
    given = "--reference full --metrics dinov2-similarity"
    done = skipdit(f"evaluate --samples full --samples teacache {given}").ok()
    assert [line["samples"] for line in table(done.out)] == ["full", "teacache"]
    same, result = (
        json.loads(skipdit(f"evaluate --samples {name} {given} --json").ok().out)[0]
        for name in ("full", "teacache")
    )
    assert same["value"] == pytest.approx(1, abs=1e-12)
    assert result["value"] < 1 - 1e-9
    assert len(result["scores"]) == len(result["names"]) == 5
    low, high = result["interval"]
    assert low < result["value"] < high
    assert result["protocol"] == "cosine of class tokens, DINOv2 ViT-B/14"


def clips(folder, *, ending, noise=0):
    """Clips that move, with noise in them."""
    Path(folder).mkdir()
    random = np.random.default_rng(2)
    for i in range(2):
        ramp = np.tile(np.linspace(20, 200, 64), (3, 64, 1))[..., None].repeat(3, axis=-1)
        frames = ramp + 9 * i + random.integers(-noise, noise + 1, ramp.shape)
        with Path(folder, f"{i}.{ending}").open("wb") as file:
            write = codec.write_preview if ending == "mp4" else codec.write_clip
            write(file, frames.astype(np.uint8))


def test_a_page_of_clips_and_what_lost_detail(skipdit, tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "PREVIEW_SIDE", 1)
    clips("full", ending="mkv")
    clips("lossless", ending="mkv", noise=3)
    clips("coded", ending="mp4")
    places = "--samples lossless --samples coded --reference full"
    done = skipdit(f"evaluate {places} --metrics psnr --out scores")
    assert (done.code, len(done.remarks)) == (0, 1)
    assert done.remarks[0].startswith("skipdit: warning: coded: h264 in yuv420p loses detail")
    page = Path("scores/scores.html").read_text()
    assert page.count('<video src="data:video/mp4;base64,') == 3 * 2
    assert "Coded with loss, which costs decibels: coded (h264 in yuv420p)." in page
    assert "Pairs: lossless with full, by name; coded with full, by name." in page


def test_mp4_is_warned_of_once(skipdit, tmp_path):
    skipdit(CLIPS).ok()
    for kind in ("mp4", "mkv"):
        skipdit(f"export none --out {kind} --format {kind}").ok()
    # larger than the lossless ones: previews are enlarged, and that is told as well
    done = skipdit("evaluate --samples mp4 --reference mkv --metrics psnr")
    warned = [line for line in done.remarks if line.startswith("skipdit: warning: mp4: h264 in ")]
    assert len(warned) == 1
    assert "loses detail, and decibels of PSNR with it; where there are lossless files" in warned[0]
    assert done.code == 2
    assert "mkv/0000.mkv and mp4/0000.mp4, psnr: " in done.remarks[-1]


def test_samples_that_do_not_pair_are_warned_of_where_a_set_is_scored(skipdit, folders):
    Path("full/4.png").unlink()
    done = skipdit("evaluate --samples teacache --reference full")
    assert done.code == 0
    assert done.remarks == [
        "skipdit: warning: full: no pairs are scored: has no 4, as teacache has; leave files of "
        "the same names in both"
    ]
    sets = "CMMD, FD-DINOv2, FID, KID, Precision, Recall, sFID"
    assert f"Compared as sets: {sets} with full." in done.out
    skipdit("evaluate --samples teacache --reference full --metrics psnr").failed(
        2, "full: has no 4, as teacache has"
    )


def test_a_broken_file_is_named_beside_what_was_scored(skipdit, folders):
    Path("teacache/3.png").write_bytes(b"no picture")
    given = ("--samples", "other tool", "--samples", "teacache", "--reference", "full")
    done = skipdit("evaluate", *given, "--metrics", "psnr,ssim")
    assert done.code == 2
    assert "| psnr " in done.out
    assert "Pairs: other tool with full, by order." in done.out
    assert done.remarks == [
        "skipdit: teacache/3.png: cannot be read as an image (cannot identify image file "
        "'teacache/3.png'); fetch it again, or take it out of the folder"
    ]


def test_a_pattern_in_quotes(skipdit, folders, table):
    given = ("--samples", "tea*/[0-2].png", "--reference", "full/[0-2].png")
    assert table(skipdit("evaluate", *given).ok().out)[0]["n"] == "3"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--samples absent", ["--samples absent: no such file or folder; give a folder of .jpg,"]),
        ("--samples full --reference absent", ["--reference absent: no such file or folder"]),
        ("smoke --samples full", ["--samples: one subject is scored at a time", "or smoke"]),
        ("smoke --out here", ["--out: it is for --samples"]),
        ("smoke --prompts coco", ["--prompts: it is for --samples"]),
        ("--samples full --metrics fvd", ["--metrics: fvd cannot score images; take one of "]),
        ("--samples full --metrics psnr", ["--metrics: psnr compares each sample with its orig"]),
        ("--samples full --metrics pnsr", ["did you mean 'psnr'?"]),
        ("--samples clips", ["clips: no metric can score them by themselves; give what they are"]),
        ("", ["skipdit evaluate: no target; name a run or a recipe, or give --samples"]),
    ],
)
def test_what_cannot_be_scored(skipdit, folders, words, parts):
    Path("clips").mkdir()
    np.save("clips/a.npy", np.zeros((4, 16, 16, 3), np.uint8))
    skipdit(f"evaluate {words}").failed(2, *parts)


def test_nothing_of_a_run_is_touched(skipdit, folders):
    skipdit("evaluate --samples teacache --reference full --results elsewhere").ok()
    assert [path.name for path in Path("elsewhere").iterdir()] == ["outside"]
    assert skipdit("ls runs --results elsewhere").out == ""
