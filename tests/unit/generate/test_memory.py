"""A batch that no memory holds is refused before anything starts; what fits is let through."""

import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.generate import memory
from skipdit_cli.recipe.runs import make_run


@pytest.fixture
def room(monkeypatch):
    return lambda least: monkeypatch.setattr(memory, "_room", lambda device: least)


def run(count, batch, **settings):
    return make_run("digits", settings={"num_samples": count, "batch_size": batch, **settings})


def test_what_a_sample_takes_doubles_with_guidance():
    alone, guided = (memory.least_bytes(run(1, 1, guidance=scale)) for scale in (None, 2))
    assert guided == 2 * alone > 0


def test_too_large_a_batch_is_told_with_one_that_fits(room):
    one = memory.least_bytes(run(8, 8))
    room(5 * one + 1)
    with pytest.raises(UsageError) as caught:
        memory.require(run(8, 8), device="cpu")
    assert str(caught.value).startswith("--batch-size: 8 samples at once take 0.0 GB at least")
    assert str(caught.value).endswith("; take 5 or fewer")
    memory.require(run(8, 5), device="cpu")
    with pytest.raises(UsageError, match=r"in each of 2 processes .* take 2 or fewer"):
        memory.require(run(8, 4), device="cpu", workers=2)
    memory.require(run(4, 4), device="cpu", workers=2)  # one batch, so one process


def test_the_memory_of_this_machine_is_known():
    assert 1e8 < memory._room("cpu") < 1e14
