"""The check of a GPU, run on a processor with the embedded models, so that it cannot rot."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).with_name("check.py")


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    given = ["--device", "cpu", "--scale", "tiny", "--out", str(folder), *arguments]
    command = [sys.executable, str(CHECK), *given]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


def facts(folder: Path) -> list[dict]:
    (file,) = folder.glob("*.json")
    return json.loads(file.read_text(encoding="utf-8"))["facts"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["parity", "speed", "compiled", "decoding", "precision", "sweep"])
def test_every_part_runs_on_a_processor(tmp_path, part):
    many = part in ("parity", "speed")  # go over many models: what there is no time for is left out
    done = check(tmp_path, "--parts", part, "--budget", "120" if many else "460")
    assert done.returncode == 0, done.stdout + done.stderr
    found = facts(tmp_path)
    measured = [fact for fact in found if not {"skipped", "part_s"} & fact.keys()]
    assert measured
    assert all(fact["part"] == part and fact.get("ok", True) for fact in measured)
    (page,) = tmp_path.glob("*.md")
    assert f"| {next(key for key in measured[0] if key != 'part')}" in page.read_text()


@pytest.mark.slow
def test_what_there_is_no_time_for_is_named(tmp_path):
    assert check(tmp_path, "--parts", "speed,official", "--budget", "0").returncode == 0
    assert [fact.get("skipped") for fact in facts(tmp_path)] == ["the time was up"] * 2


def test_the_page_shows_what_was_measured(monkeypatch):
    monkeypatch.syspath_prepend(str(CHECK.parent))
    page = importlib.import_module("page")
    made = {"device": "A", "skipdit": "1", "commit": "c", "dirty": True, "torch": "2", "cuda": "12"}
    found = [
        {"part": "decoding", "model": "digits", "seconds": 0.25, "ok": False},
        {"part": "decoding", "part_s": 3.2},
        {"part": "official", "skipped": "the time was up"},
    ]
    shown = page.to_markdown({**made, "time": "now", "scale": "tiny", "facts": found})
    assert "| digits  | 0.25      | NO   |" in shown
    assert "\n3 s." in shown
    assert "Not done: the time was up." in shown
