"""DBCache against cache-dit itself: its block adapter on the blocks of an embedded model."""

import pytest
import torch

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.generate import rng
from skipdit_cli.generate.loop import denoise
from skipdit_cli.spec import parse_cache

STEPS = 16
# Settings, by what they are here to show.
CASES = {
    "F2B1": "Fn_compute_blocks=2,Bn_compute_blocks=1,threshold=0.25,max_warmup_steps=3",
    "F1B0": "Fn_compute_blocks=1,threshold=0.3,max_warmup_steps=0",
    "nothing": "threshold=0,max_warmup_steps=0",
    "F1B3": "Fn_compute_blocks=1,Bn_compute_blocks=3,threshold=0.3,max_warmup_steps=1",
    "always": "Fn_compute_blocks=2,threshold=1.5,max_warmup_steps=4",
    "in a row": "Fn_compute_blocks=1,threshold=1,max_warmup_steps=2,max_continuous_cached_steps=2",
    "in all": "Fn_compute_blocks=1,Bn_compute_blocks=1,threshold=0.6,max_warmup_steps=1,"
    "max_cached_steps=5",
}


@pytest.fixture(scope="module")
def cache_dit():
    import cache_dit

    return cache_dit


@pytest.fixture
def digits():
    return networks.load(catalog.card("digits"))


def sample(model, cache):
    """A guided sample of two digits, and the steps at which something was skipped."""
    shape, skipped = model.inputs(1)["hidden_states"].shape[1:], []

    def on_step(session, _):
        if session.step == STEPS - 1:
            skipped.extend(step for step, sites in enumerate(session.reused) if sites)

    made = denoise(
        model,
        rng.batch_normal(shape, seed=1, indices=(0, 1), step=rng.INITIAL),
        cache=parse_cache(cache).resolve(model.layout()),
        sampler=registry.load("samplers", "ddim"),
        steps=str(STEPS),
        step_noise=lambda _: pytest.fail("DDIM asked for noise"),
        conditions={"class_labels": torch.tensor([3, 7])},
        null={"class_labels": torch.tensor([10, 10])},
        guidance=3.0,
        on_step=on_step,
    )
    return made, skipped


def theirs(cache_dit, model, settings):
    """The same of cache-dit, with our names of its settings."""
    how = vars(parse_cache(f"dbcache({settings})").resolve(model.layout()).settings)
    how = {"residual_diff_threshold": how["threshold"], **how}
    del how["threshold"]
    adapter = cache_dit.BlockAdapter(
        transformer=model, blocks=model.blocks, forward_pattern=cache_dit.ForwardPattern.Pattern_3
    )
    config = cache_dit.DBCacheConfig(**how, enable_separate_cfg=False, num_inference_steps=STEPS)
    cache_dit.enable_cache(adapter, cache_config=config)
    try:
        made, _ = sample(model, "none")
        return made, model._cached_steps
    finally:
        cache_dit.disable_cache(adapter)


@pytest.mark.few(3)
@pytest.mark.parametrize("case", CASES)
def test_samples_and_skipped_steps_are_those_of_cache_dit(case, cache_dit, digits, monkeypatch):
    """Bit for bit; both halves of guidance are one batch, as in models that fuse them."""
    from cache_dit.caching.cache_blocks.pattern_base import CachedBlocks_Pattern_Base

    # What DiT asks of a block before it calls it.
    monkeypatch.setattr(CachedBlocks_Pattern_Base, "skip", None, raising=False)
    ours, skipped = sample(digits, f"dbcache({CASES[case]})")
    expected, their_steps = theirs(cache_dit, digits, CASES[case])
    assert skipped == their_steps
    assert torch.equal(ours, expected)
    assert (case == "nothing") == (not skipped)
    assert len(skipped) < STEPS - 1  # and none is skipped because all are
    assert (case == "nothing") == torch.equal(ours, sample(digits, "none")[0])
