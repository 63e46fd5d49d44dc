"""Of each kind one network is in memory, and the GPU gets back what nobody uses."""

import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from skipdit_cli.generate import batch, loaded, samples
from skipdit_cli.generate.local import Local
from skipdit_cli.generate.options import Options
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score import reference, scoring, sweep


class Network:
    pass


@pytest.fixture(autouse=True)
def _nothing_loaded():
    loaded.release()
    yield
    loaded.release()


def test_a_network_is_loaded_once_until_another_is_asked_for():
    calls = []

    def load(name):
        return lambda: calls.append(name) or Network()

    first = loaded.one("denoiser", "a", load("a"))
    assert loaded.one("denoiser", "a", load("a")) is first
    beside = loaded.one("autoencoder", "a", load("vae"))
    assert loaded.one("denoiser", "b", load("b")) is not first
    assert loaded.one("autoencoder", "a", load("vae")) is beside
    loaded.one("denoiser", "a", load("a"))
    assert calls == ["a", "vae", "b", "a"]


def test_the_one_before_is_gone_when_the_next_is_loaded():
    """Two at full size may not fit."""
    before = weakref.ref(loaded.one("denoiser", "a", Network))
    assert before() is not None

    def load():
        assert before() is None
        return Network()

    loaded.one("denoiser", "b", load)


def test_release_takes_those_of_circles_along():
    network = loaded.one("denoiser", "a", Network)
    network.itself = network
    gone, kept = weakref.ref(network), loaded.one("autoencoder", "a", Network)
    del network
    loaded.release("denoiser")
    assert gone() is None
    assert loaded.one("autoencoder", "a", Network) is kept


@pytest.mark.parametrize("on", [False, True])
def test_a_gpu_is_asked_only_where_it_is_used(monkeypatch, on):
    emptied = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: on)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    loaded.release()
    assert emptied == [True] * on


class Reached(Exception):
    pass


@pytest.fixture
def reached(monkeypatch):
    """reached("generate.local.share") is where work ends; raises what is loaded there."""

    def at(name):
        def stop(*given, **how):
            raise Reached(sorted(loaded._loaded))

        monkeypatch.setattr(f"skipdit_cli.{name}", stop)
        loaded.one("denoiser", "of another run", Network)

    return at


@pytest.mark.parametrize(("workers", "kept"), [(1, ["denoiser"]), (2, [])])
def test_workers_find_the_gpu_empty(reached, tmp_path, workers, kept):
    reached("generate.local.share" if workers > 1 else "generate.local.Behind")
    with pytest.raises(Reached) as caught:
        samples.generate(
            make_run("digits", settings={"batch_size": 1, "num_samples": 2}),
            tmp_path,
            engine=Local(workers),
        )
    assert caught.value.args == (kept,)


def test_text_encoders_find_the_gpu_empty(reached, tmp_path):
    reached("generate.conditioning.prepare")
    with pytest.raises(Reached) as caught:
        samples.generate(make_run("captioned-digits"), tmp_path)
    assert caught.value.args == ([],)


def test_scores_find_the_gpu_empty(reached, tmp_path, monkeypatch):
    run = make_run("digits")
    monkeypatch.setattr(samples, "generate_all", lambda *given, **how: {})
    reached("score.measure.measure")
    with pytest.raises(Reached) as caught:
        sweep.sweep([(run, ["accuracy@digits"])], Options(tmp_path, repeats=0))
    assert caught.value.args == ([],)


def test_vbench_finds_the_gpu_empty(reached, monkeypatch):
    metric = SimpleNamespace(score_prompts=lambda *given, **how: scoring.after())
    monkeypatch.setattr(scoring, "after", None, raising=False)
    reached("score.scoring.after")
    monkeypatch.setattr(reference, "kept_as", lambda metric: "vbench")
    store = SimpleNamespace(hashes=lambda n: [])
    job = scoring.ScoringJob(
        metric=metric, part="", samples=store, n=0, folder=Path(), dataset="vbench"
    )
    with pytest.raises(Reached) as caught:
        scoring._prompted(job)
    assert caught.value.args == ([],)


def test_a_process_has_one_denoiser():
    digits, moving = (make_run(name) for name in ("digits", "moving-digits"))
    first = batch.network(digits)
    assert batch.network(digits) is first
    gone = weakref.ref(first)
    del first
    assert batch.network(moving) is batch.network(moving)
    assert gone() is None
