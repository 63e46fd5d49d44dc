"""A dry run of every family: random weights, told apart from real ones in all they leave."""

import json

import numpy as np
import pytest

from skipdit_cli.checkpoints import catalog, local, networks
from skipdit_cli.checkpoints.card import DRY_RUN
from skipdit_cli.generate import loaded, text
from skipdit_cli.generate.samples import generate
from skipdit_cli.recipe import runs
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.storage.store import open_store

EMBEDDED = [card.name for card in catalog.CARDS.values() if card.embedded]
GIVEN = {"steps": "3,1", "num_samples": 2, "batch_size": 2}  # higher up every pixel saturates


QUICK = ("digits-skip", "moving-digits-skip")


def dry(model, cache="none", **more):
    return make_run(model, cache, {**GIVEN, "weights": "random", **more})


def read(run, root):
    store = open_store(root, run)
    return np.stack([store.read(i) for i in range(run.num_samples)])


@pytest.mark.parametrize(
    "model",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in EMBEDDED],
)
def test_a_dry_run_is_reproducible_marked_and_by_itself(model, tmp_path, monkeypatch):
    real, run = make_run(model, settings=GIVEN), dry(model)
    assert run.key != real.key
    assert run.label == f"{model} (random weights)"
    assert runs.from_dict(run.to_dict()) == run
    assert runs.from_dict(run.to_dict()).card.random
    monkeypatch.setattr(networks, "read_state", lambda path: pytest.fail(f"read {path}"))
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    pixels = []
    for root in (tmp_path / "one", tmp_path / "other"):
        loaded.release()  # as if another process came
        generate(run, root)
        pixels.append(read(run, root))
    assert np.array_equal(*pixels)
    assert len(np.unique(pixels[0])) > 40  # neither black nor saturated
    described = json.loads((tmp_path / "one" / "samples" / run.key / "run.json").read_text())
    assert described["note"] == DRY_RUN
    assert described["run"]["weights"] == "random"


@pytest.mark.slow
def test_seed_cache_and_prompt_matter(tmp_path):
    """All parts of a random network reach its output."""
    model = "captioned-digits-skip"
    one = read_made(dry(model), tmp_path)
    assert not np.array_equal(one, read_made(dry(model, seed=1), tmp_path))
    assert not np.array_equal(one, read_made(dry(model, "skip-cache(n=2,window=999-0)"), tmp_path))
    others = dry(model, prompts=("a nine moving down",), guidance=8.0)
    first = dry(model, prompts=("a one moving up",), guidance=8.0)
    assert not np.array_equal(read_made(first, tmp_path), read_made(others, tmp_path))


def read_made(run, root):
    generate(run, root)
    return read(run, root)


def test_embeddings_of_random_encoders_are_never_taken_for_real_ones(tmp_path):
    cards = catalog.card("painted-digits"), dry("painted-digits").card
    real, drawn = (text._folder(tmp_path, card, "float32") for card in cards)
    assert real != drawn


def test_a_process_draws_a_network_once(tmp_path, monkeypatch):
    loaded.release()
    drawn, fill = [], networks.drawn.fill
    monkeypatch.setattr(networks.drawn, "fill", lambda *a, **k: drawn.append(1) or fill(*a, **k))
    for cache in ("none", "fora(n=2)", "skip-cache(n=2)"):
        generate(dry("digits-skip", cache, num_samples=4), tmp_path)
    assert drawn == [1]


def test_weights_of_another_kind_are_refused(tmp_path):
    run = dry("digits")
    assert run.weights == local.fingerprint(run.card) == "random"
    assert make_run("digits", settings=GIVEN).weights != "random"
