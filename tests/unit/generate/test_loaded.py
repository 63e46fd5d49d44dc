"""Of each kind one network is in memory, and the GPU gets back what nobody uses."""

import weakref

import pytest
import torch

from skipdit_cli.generate import loaded, samples
from skipdit_cli.recipe.runs import make_run


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


def test_a_process_has_one_denoiser():
    digits, moving = (make_run(name) for name in ("digits", "moving-digits"))
    first = samples.network(digits)
    assert samples.network(digits) is first
    gone = weakref.ref(first)
    del first
    assert samples.network(moving) is samples.network(moving)
    assert gone() is None
