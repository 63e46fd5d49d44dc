"""Runs of a model in a folder: they know what is in it, and it may change, move or go."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from skipdit_cli import run as run_module
from skipdit_cli.checkpoints import catalog, folder, local
from skipdit_cli.checkpoints import pipeline as pipelines
from skipdit_cli.checkpoints.catalog import CARDS
from skipdit_cli.embedded import shipped
from skipdit_cli.errors import UsageError
from skipdit_cli.profiling.remembered import _key
from skipdit_cli.recipe.again import making
from skipdit_cli.recipe.runs import from_dict, make_run
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


def test_a_run_remembers_its_call(tmp_path):
    """What a card.json says afterwards is not the run's."""
    path = pipeline("mine")
    card = {"family": "pipeline", "variant": "StableDiffusion3Pipeline"}
    (path / "card.json").write_text(json.dumps(card))
    run = run_of("./mine")
    card["arguments"] = {"max_sequence_length": 4}
    (path / "card.json").write_text(json.dumps(card))
    assert run_of("./mine").key != run.key
    again = from_dict(run.to_dict())
    assert (again.key, dict(again.card.arguments)) == (run.key, {})


def test_a_run_whose_folder_is_gone_is_told_of():
    path = pipeline("mine")
    run = run_of("./mine")
    shutil.move(path, "elsewhere")
    message = r"its model, \./mine, is not there any more; put it back, or make"
    with pytest.raises(UsageError, match=message):
        from_dict(run.to_dict())


def test_a_run_of_a_pipeline_that_is_another_one_is_told_of():
    """Its costs would be those of what is there now."""
    path = pipeline("mine")
    run = run_of("./mine")
    assert from_dict(run.to_dict()) == run
    edit(path / "transformer/config.json", something=3)
    with pytest.raises(UsageError, match=r"\./mine is not the pipeline any more that made it; put"):
        from_dict(run.to_dict())
    next(path.glob("transformer/*.safetensors")).unlink()  # then it cannot be known
    assert from_dict(run.to_dict()).key == run.key


def test_a_shipped_pipeline_is_made_again_where_a_folder_has_its_name():
    run = run_of(FLOW)
    assert making(run).startswith(f"skipdit sample --pipeline {FLOW} ")
    pipeline(FLOW)
    assert making(run).startswith(f"skipdit sample --model {FLOW} ")


def test_a_negative_prompt_of_the_card_counts_with_guidance():
    path = pipeline("mine")
    card = {"family": "pipeline", "variant": "StableDiffusion3Pipeline", "negative_prompt": "bad"}
    (path / "card.json").write_text(json.dumps(card))
    assert run_of("./mine", guidance="3").negative_prompt == "bad"
    assert run_of("./mine", guidance="none").negative_prompt == ""
    assert run_of("./mine", guidance="3", negative_prompt="worse").negative_prompt == "worse"


def test_a_negative_prompt_of_the_card_has_to_be_taken(monkeypatch):
    known = replace(pipelines.facts("StableDiffusion3Pipeline"), negative=False)
    monkeypatch.setattr(pipelines, "facts", lambda *given, **more: known)
    card = {"family": "pipeline", "variant": "StableDiffusion3Pipeline", "negative_prompt": "bad"}
    (pipeline("mine") / "card.json").write_text(json.dumps(card))
    message = r"mine/card.json negative_prompt: StableDiffusion3Pipeline takes no negative prompt"
    with pytest.raises(UsageError, match=message):
        catalog.card("./mine")


def test_what_is_counted_depends_on_all_files_but_weights():
    path = pipeline("mine")
    key = _key(catalog.card("./mine"), "")
    next(path.rglob("*.safetensors")).unlink()
    (path / "transformer/flax_model.msgpack").write_bytes(b"weights of others")
    (path / "transformer/model.safetensors.index.json").write_text("{}")
    assert _key(catalog.card("./mine"), "") == key
    edit(path / "tokenizer/tokenizer.json", something=3)
    assert _key(catalog.card("./mine"), "") != key


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


@pytest.mark.parametrize("part", ["transformer/config.json", "tokenizer/tokenizer_config.json"])
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
