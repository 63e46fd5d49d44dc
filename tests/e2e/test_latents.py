"""`skipdit latents`, as a user runs it."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.storage import codec


@pytest.fixture
def digits():
    """A folder of class folders with four images each, in the current folder."""
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        Path("data", name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(Path("data", name, f"{i}.png"))
    return Path("data")


def test_images_in_class_folders(skipdit, digits):
    shown = skipdit("latents --model digits-skip --data data").ok().out
    place = r"(results/latents/digits-skip-\w{8})\n"
    found = re.fullmatch(rf"8 of digits-skip, 2 classes, 16 entries, 0\.0 MB in {place}", shown)
    assert found, shown
    assert sorted(path.name for path in Path(found[1]).iterdir() if path.suffix != ".lock") == [
        "latents.json",
        "shard-00000.safetensors",
    ]
    before = Path(found[1], "latents.json").stat().st_mtime_ns
    assert skipdit("latents --model digits-skip --data data --flips").ok().out == shown
    assert Path(found[1], "latents.json").stat().st_mtime_ns == before
    other = skipdit("latents --model digits-skip --data data --no-flips").ok().out
    assert "8 entries" in other
    assert found[1] not in other


def test_clips_with_captions_and_json(skipdit):
    Path("clips").mkdir()
    for name in "ab":
        codec.write_clip(Path("clips", f"{name}.mkv"), np.zeros((20, 16, 16, 3), np.uint8))
    Path("clips/metadata.csv").write_text("file_name,caption\na.mkv,a one\nb.mkv,a two\n")
    done = skipdit(
        "latents --model captioned-digits --data clips --out mine --crops 2 --interval 2 --seed 1 "
        "--precision float32 --device cpu --batch-size 1 --json"
    ).ok()
    told = json.loads(done.out)
    assert len(told.pop("identity")) == 16
    assert told.pop("bytes") == Path("mine/shard-00000.safetensors").stat().st_size
    assert told == {
        "folder": "mine", "items": 2, "classes": 0, "captions": 2, "entries": 4, "shards": 1,
        "bad": {},
    }  # fmt: skip


def test_bad_files(skipdit, digits):
    Path("data/one/2.png").write_bytes(b"no image")
    skipdit("latents --model digits --data data").failed(
        2, "data/one/2.png: cannot be read as an image", "bad file 1, and 0 may be left out"
    )
    done = skipdit("latents --model digits --data data --max-bad 1")
    assert done.code == 0
    assert done.out.startswith("7 of digits, 2 classes, 14 entries, 1 files left out, ")
    assert re.search(r"^skipdit: warning: data/one/2\.png: cannot be read", done.err, re.MULTILINE)


@pytest.mark.parametrize(
    ("line", "code", "parts"),
    [
        ("--model digits --data none", 2, ("--data none: no such folder",)),
        ("--model digit --data data", 2, ("unknown model 'digit'", "did you mean 'digits'?")),
        ("--model digits --data data/one", 2, ("has no classes, and digits takes two or more",)),
        ("--model digits --data data --crops 2", 2, ("--crops: digits makes images",)),
        ("--model digits --data data --precision int8", 2, ("unknown precision 'int8'",)),
        ("--model captioned-digits --data data", 2, ("has no metadata.csv or metadata.jsonl",)),
        ("--model dit-xl-2 --data data", 4, ("the vae of dit-xl-2 is not here", "download")),
    ],
)
def test_mistakes(skipdit, digits, line, code, parts):
    skipdit(f"latents {line}").failed(code, *parts)


@pytest.mark.slow
def test_a_killed_command_goes_on(skipdit, digits, wait_for):
    """Killed between two shards, of one image each."""
    begun = "import time; from skipdit_cli.train import encoding, frames; encoding.SHARD_BYTES = 1"
    waiting = (  # with the seventh
        "read, images = frames.Preparation.read, iter(range(1, 9))\n"
        "frames.Preparation.read = lambda *a: time.sleep(600 * (next(images) > 6)) or read(*a)"
    )
    ended = "from skipdit_cli.cli import main; main()"
    line, program = "latents --model digits --data data --out", ("-c", f"{begun}\n{ended}")
    started = skipdit.start(line, "killed", program=("-c", f"{begun}\n{waiting}\n{ended}"))
    wait_for(lambda: Path("killed/shard-00002.safetensors").exists())
    started.send_signal(signal.SIGKILL)
    skipdit.wait(started)
    assert not Path("killed/shard-00007.safetensors").exists()
    for out in ("killed", "whole"):
        assert skipdit.wait(skipdit.start(line, out, program=program)).code == 0
    contents = (
        {path.name: path.read_bytes() for path in Path(out).glob("*.*") if path.suffix != ".lock"}
        for out in ("killed", "whole")
    )
    one, other = contents
    assert one == other
    assert len(one) == 9
