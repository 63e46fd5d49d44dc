"""However a file that is read again is damaged: the numbers are the right ones, or it is said."""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from skipdit_cli.profiling import counts

SMALL = "--num-samples 3 --batch-size 2 --steps 3 --repeats 0 --json"
COMMANDS = {
    "images": "cache-sweep --model digits --cache none --cache fora(n=2) --cache teacache "
    f"--metrics psnr,ssim,fid@digits,accuracy@digits {SMALL}",
    "captions": f"cache-sweep --model painted-digits --cache none --cache fora(n=2) "
    f"--metrics psnr,accuracy@digits {SMALL}",
}
CALIBRATION = "analyze calibrate --model digits --method teacache --num-samples 8 --steps 3"
UNREAD = {".lock", ".pid", ".mp4", ".md", ".csv", ".tex", ".html"}
KINDS = (
    "calibration .json",
    "counts .json",
    "embeddings .safetensors",
    "samples .jsonl",
    "samples .png",
    "samples .safetensors",
    "samples run.json",
    "scores .json",
)
TIMES = 3  # of each kind in each way
HOWS = ("flip a bit", "flip a bit", "swap", "truncate", "empty", "make a folder")


@dataclass
class Study:
    """Two sweeps, their results and what is in $SKIPDIT_HOME, and the numbers that are right."""

    pristine: Path
    right: dict[str, list]


def numbers(outcome):
    """The cells of a table that no clock is behind."""
    return [
        {key: cell for key, cell in row.items() if isinstance(cell, dict)}
        for row in json.loads(outcome.out)["rows"]
    ]


def ask(skipdit, root, name):
    counts.layout.cache_clear()  # as in a process of its own
    counts.costs.cache_clear()
    return skipdit(f"{COMMANDS[name]} --results", root / name)


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch):
    """They read nothing of what is damaged, and take as long as all the rest."""
    monkeypatch.setattr("skipdit_cli.report.figures.draw", lambda *_, **__: [])


@pytest.fixture(scope="module")
def study(skipdit, tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    right = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKIPDIT_HOME", str(root / "home"))
        patch.chdir(root)
        assert skipdit(CALIBRATION).code == 0  # of few samples, which it says
        for name in COMMANDS:
            right[name] = numbers(ask(skipdit, root, name).ok())
            assert numbers(ask(skipdit, root, name).ok()) == right[name]
    return Study(root, right)


def files(root):
    found = (path for path in root.rglob("*") if path.is_file())
    return sorted(p for p in found if p.suffix not in UNREAD and "sweeps" not in p.parts)


def kind(path, root):
    """What of it there is: "samples png", "scores json"."""
    name = path.stem if path.name == "run.json" else ""
    return f"{path.relative_to(root).parts[1]} {name}{path.suffix}"


def damage(path, root, how, draw):
    data = bytearray(path.read_bytes())
    if how == "flip a bit":
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif how == "swap":
        others = [each for each in files(root) if kind(each, root) == kind(path, root)]
        other = draw.choice(others)
        path.write_bytes(other.read_bytes())
        path, data = other, data
    elif how == "make a folder":
        path.unlink()
        path.mkdir()
        return
    else:
        del data[draw.randrange(len(data)) if how == "truncate" else 0 :]
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(TIMES * len(KINDS) * len(HOWS)))
def test_no_damage_gives_another_number(skipdit, study, tmp_path, monkeypatch, seed):
    """One file is damaged, of each kind as often as of others and in each way; which, and where in
    it, by chance."""
    root, draw = tmp_path / "copy", random.Random(seed)
    shutil.copytree(study.pristine, root)
    monkeypatch.setenv("SKIPDIT_HOME", str(root / "home"))
    kinds = {}
    for each in files(root):
        kinds.setdefault(kind(each, root), []).append(each)
    path = draw.choice(kinds[KINDS[seed % len(KINDS)]])
    how = HOWS[seed // len(KINDS) % len(HOWS)]
    damage(path, root, how, draw)
    said = f"seed {seed}: {how}, {path.relative_to(root)}"
    concerned = path.relative_to(root).parts[0]
    for name in COMMANDS if concerned == "home" else [concerned]:
        done = ask(skipdit, root, name)
        assert all(line.startswith("skipdit: ") for line in done.remarks), (said, done.err)
        assert done.code != 0 or numbers(done) == study.right[name], (said, done.err)
        if done.code == 0:  # and what was damaged is whole again, and nothing is said of it
            again = ask(skipdit, root, name)
            assert numbers(again) == study.right[name], said
            assert again.remarks == [] or how == "make a folder", (said, again.err)


@pytest.mark.slow
def test_every_kind_of_file_is_among_those_damaged(study):
    assert {kind(path, study.pristine) for path in files(study.pristine)} == {*KINDS}
    parts = {part for path in files(study.pristine) for part in path.parts}
    assert {"features", "trajectory.safetensors"} <= parts
