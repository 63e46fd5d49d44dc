"""Runs of a model in a folder: their key knows what is in the folder, not where it is."""

import json
import shutil
from pathlib import Path

import pytest

from skipdit_cli import run as run_module
from skipdit_cli.checkpoints import folder, local
from skipdit_cli.checkpoints.catalog import CARDS
from skipdit_cli.embedded import shipped
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.run import Run

FLOW = "flow-digits"
RANDOM = {"weights": "random"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pipeline(at: str) -> Path:
    return Path(shutil.copytree(shipped.embedded() / FLOW, at))


def model(at: str) -> Path:
    source = local.weights_file(CARDS["digits"]).parent
    folder.write(Path(shutil.copytree(source, at)), CARDS["digits"])
    return Path(at)


def run_of(path: Path | str, **settings) -> Run:
    return make_run(str(path), "fora(n=2)", {"num_samples": 1} | settings)


def edit(file: Path, **fields) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.mark.parametrize("made", [pipeline, model])
def test_a_folder_that_moves_keeps_its_runs(made, tmp_path):
    before = run_of(made("a/mine")).key
    inside = tmp_path / "a/b"
    inside.mkdir()
    for path in ("./a/mine", tmp_path / "a/mine", "a/b/../mine"):
        assert run_of(path).key == before
    (inside / "link").symlink_to(tmp_path / "a/mine")
    assert run_of("a/b/link").key == before
    shutil.move("a/mine", "elsewhere")
    assert run_of("./elsewhere").model == "./elsewhere"
    assert run_of("./elsewhere").key == before


@pytest.mark.parametrize("made", [pipeline, model])
def test_another_content_in_its_place_has_other_runs(made):
    path = made("mine")
    before = run_of("./mine").key
    weights = sorted(path.rglob("*.safetensors"))[0]
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert run_of("./mine").key != before


def test_folders_without_weights_are_told_apart_by_name():
    for name in ("one", "two"):
        (model(name) / local.WEIGHTS_FILE).unlink()
    assert run_of("./one").weights == "absent"
    assert run_of("./one").key != run_of("./two").key


@pytest.mark.parametrize("part", ["transformer/config.json", "tokenizer/tokenizer.json"])
def test_random_weights_know_the_configurations(part):
    path = pipeline("mine")
    before = run_of("./mine", **RANDOM)
    next(path.rglob("*.safetensors")).unlink()  # none are read
    assert run_of("./mine", **RANDOM).key == before.key
    edit(path / part, something=3)
    assert run_of("./mine", **RANDOM).key != before.key


def test_random_weights_of_a_pipeline_are_drawn_by_code_with_a_version(monkeypatch):
    before = run_of(FLOW, **RANDOM).key
    monkeypatch.setattr(run_module, "DRAWING", 99)
    assert run_of(FLOW, **RANDOM).key != before
