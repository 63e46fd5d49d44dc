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


def test_a_network_that_does_not_fit_names_what_does(room):
    sizes = {"float16": 11_600_000_000, "float32": 19_000_000_000, "bfloat16": 9_500_000_000}
    room(12e9)
    memory.require_room("the text_encoder of latte", sizes, dtype="float16", device="cpu")
    with pytest.raises(UsageError) as caught:
        memory.require_room("the text_encoder of latte", sizes, dtype="float32", device="cpu")
    assert str(caught.value) == (
        "the text_encoder of latte takes 19.0 GB in float32 and there are 12.0 GB; "
        "take float16 (11.6 GB) or bfloat16 (9.5 GB)"
    )
    room(1e9)
    with pytest.raises(UsageError, match="take a machine with more memory"):
        memory.require_room("the text_encoder of latte", sizes, dtype="float16", device="cpu")
