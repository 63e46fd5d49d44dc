"""Every sampler does what it announces, on a network that knows the answer.

The oracle knows the clean sample and predicts the noise (or the velocity) that is exactly left, so
that a sampler ends at the clean sample wherever its steps add up.
"""

import numpy as np
import pytest
import torch

from skipdit_cli import registry
from skipdit_cli.generate import rng

STEPS = ("10", "ddim5", "ddim5+1", "4,1", "1")
LINEAR = ("linear", 1e-4, 0.02)
POWER = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))  # signal power at each timestep
INDICES = (3, 11, 7)  # of the samples of a batch


@pytest.fixture(params=registry.names("samplers"))
def sampler(request):
    return registry.load("samplers", request.param)


def shape(channel_dim):
    """Of one sample: an image [C,H,W], or a clip [F,C,H,W] whose channels are the third dimension
    of a batch."""
    return (3, 4, 4) if channel_dim == 1 else (2, 3, 4, 4)


def clean(indices, channel_dim):
    """The sample that each index stands for. [B, ...]"""
    return torch.stack(
        [0.5 * torch.sin(i + torch.arange(float(np.prod(shape(channel_dim))))) for i in indices]
    ).reshape(-1, *shape(channel_dim))


def oracle(x0, *, learn_sigma=False, channel_dim=1, prediction="epsilon", visited=None):
    """A denoiser that knows `x0`; a learned variance is the larger one."""

    def denoise(x, t):
        assert t.shape == (len(x),)
        assert not t.is_floating_point()
        if visited is not None:
            [timestep] = set(t.tolist())
            visited.append(timestep)
        power = torch.from_numpy(POWER)[t].view(-1, *[1] * (x.dim() - 1))
        noise = (x.double() - power.sqrt() * x0) / (1 - power).sqrt()
        velocity = power.sqrt() * noise - (1 - power).sqrt() * x0
        out = (noise if prediction == "epsilon" else velocity).to(x.dtype)
        return torch.cat([out, torch.ones_like(out)], channel_dim) if learn_sigma else out

    return denoise


def run(sampler, denoise, indices=INDICES, *, steps, step_noise=None, seed=5, **settings):
    """A sample of each index, its noise drawn as `generate` draws it."""
    given = {
        "learn_sigma": False,
        "channel_dim": 1,
        "betas": LINEAR,
        "prediction": "epsilon",
        "fixed_large": True,
    } | settings

    def noise(step):
        return rng.batch_normal(shape(given["channel_dim"]), seed=seed, indices=indices, step=step)

    x = noise(rng.INITIAL)
    return sampler.sample(denoise, x, steps=steps, step_noise=step_noise or noise, **given)


@pytest.mark.parametrize("steps", STEPS)
def test_it_visits_what_it_announces_in_that_order(sampler, steps):
    announced, visited = sampler.timesteps(steps), []
    run(sampler, oracle(clean(INDICES, 1), visited=visited), steps=steps)
    assert visited == announced
    assert announced == sorted(set(announced), reverse=True)
    assert 0 <= announced[-1] <= announced[0] < len(POWER)
    assert {type(t) for t in announced} == {int}


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("channel_dim", [1, 2])
@pytest.mark.parametrize("learn_sigma", [False, True])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_with_the_exact_noise_it_ends_at_the_clean_sample(
    sampler, steps, channel_dim, learn_sigma, prediction
):
    x0 = clean(INDICES, channel_dim)
    settings = {"learn_sigma": learn_sigma, "channel_dim": channel_dim, "prediction": prediction}
    sample = run(sampler, oracle(x0, **settings), steps=steps, **settings)
    assert sample.shape == x0.shape
    assert sample.dtype == torch.float32
    torch.testing.assert_close(sample, x0, atol=1e-4, rtol=0)


def wrong(x, t):
    """A network that is no oracle: what it leaves depends on the noise of every step."""
    return torch.tanh(x + t.view(-1, 1, 1, 1).to(x.dtype) / 1000)


def test_it_takes_noise_by_the_index_of_the_step_alone(sampler):
    """Each at most once and none beyond the steps, so that a restart draws the same."""
    asked = []

    def noise(step):
        asked.append(step)
        return rng.batch_normal(shape(1), seed=5, indices=INDICES, step=step)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    sample = run(sampler, wrong, steps="10", step_noise=noise)
    assert torch.equal(torch.get_rng_state(), before)  # no noise of its own
    assert len(asked) == len(set(asked))
    assert set(asked) <= set(range(10))
    torch.manual_seed(1)
    assert torch.equal(run(sampler, wrong, steps="10"), sample)
    assert not torch.equal(run(sampler, wrong, steps="10", seed=6), sample)


def test_it_says_whether_it_adds_noise(sampler):
    """The same beginning ends elsewhere if and only if the noise of the steps counts."""

    def noise(step):
        return rng.batch_normal(shape(1), seed=6, indices=INDICES, step=step)

    same = torch.equal(
        run(sampler, wrong, steps="10", step_noise=noise), run(sampler, wrong, steps="10")
    )
    assert same != sampler.STOCHASTIC


def test_a_sample_is_the_same_alone_and_in_a_batch(sampler):
    batch = run(sampler, wrong, steps="10")
    for place, index in enumerate(INDICES):
        assert torch.equal(run(sampler, wrong, [index], steps="10")[0], batch[place])
