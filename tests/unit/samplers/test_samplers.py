"""Samplers on a denoiser that knows the answer, and respacing strings read strictly."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from skipdit_cli.errors import UsageError
from skipdit_cli.samplers import _schedule, ddim, ddpm, timesteps

BETAS = np.linspace(1e-4, 0.02, 1000)
POWER = np.cumprod(1 - BETAS)  # signal power left at each timestep
SCALED = ("scaled_linear", 0.00085, 0.02)
SCALED_BETAS = np.linspace(0.00085**0.5, 0.02**0.5, 1000) ** 2
SCALED_POWER = np.cumprod(1 - SCALED_BETAS)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("5", [999, 749, 500, 250, 0]),  # 0, 249.75, 499.5, 749.25, 999; halves to the even one
        (2, [999, 0]),
        ("1", [0]),
        (" 2 ", [999, 0]),
        ("ddim5", [800, 600, 400, 200, 0]),
        ("ddim2", [500, 0]),
        ("ddim5+1", [801, 601, 401, 201, 1]),
        ("ddim5+0", [800, 600, 400, 200, 0]),
        ("ddim5+199", [999, 799, 599, 399, 199]),
        ("2,1", [500, 499, 0]),  # sections 0..499 and 500..999
        ("1,2,1", [667, 666, 334, 0]),  # sections of 334, 333 and 333
    ],
)
def test_timesteps(steps, expected):
    assert timesteps(steps) == expected


def test_all_of_them():
    for steps in ("", "1000", 1000, "334,333,333", "ddim1000"):
        assert timesteps(steps) == list(range(999, -1, -1))


@pytest.mark.parametrize(
    "steps", ["0", "1001", 0, -5, "-5", "1.5", "ten", "ddim", "ddim0", "ddim999", "ddimX", "10,",
              "10,0", "10,x", "335,333,333", "ddim10,10", "ddim50+", "ddim50+x", "ddim50+-1",
              "ddim50+20", "ddim50-1", "ddim50+1+1", "ddim+1", "ddim50+1.0", "50+1", "ddim1000+1"],
)  # fmt: skip
def test_steps_that_cannot_be_taken(steps):
    with pytest.raises(UsageError) as caught:
        timesteps(steps)
    assert str(caught.value) == (
        f"cannot take steps '{steps}' of 1000 training steps; write a count such as 250, "
        '"ddim50", or counts per section such as "10,15,20"'
    )


def test_a_list_of_timesteps_is_the_caller_s_own():
    timesteps("5").clear()
    assert len(timesteps("5")) == 5


def test_coefficients_of_the_full_schedule():
    walked = list(_schedule.walk(""))
    assert [i for i, _ in walked] == list(range(1000))
    steps = [step for _, step in walked]
    assert [step.t for step in steps] == list(range(999, -1, -1))
    assert [step.last for step in steps] == [False] * 999 + [True]
    for step in (steps[0], steps[499], steps[998]):
        t = step.t
        assert step.beta == pytest.approx(BETAS[t])
        assert step.alpha_bar == pytest.approx(POWER[t])
        assert step.alpha_bar_next == pytest.approx(POWER[t - 1])
        variance = BETAS[t] * (1 - POWER[t - 1]) / (1 - POWER[t])
        assert step.posterior_variance == pytest.approx(variance)
        assert step.posterior_log_variance == pytest.approx(math.log(variance))
        assert step.fixed_large_variance == pytest.approx(BETAS[t])
    last = steps[-1]
    assert (last.alpha_bar_next, last.posterior_variance) == (1.0, 0.0)
    # variances of the last step come from the one before, where they are not zero
    assert last.posterior_log_variance == steps[-2].posterior_log_variance
    assert last.fixed_large_variance == pytest.approx(steps[-2].posterior_variance)


def test_respacing_keeps_the_signal_power_of_the_steps_it_keeps():
    steps = [step for _, step in _schedule.walk("ddim2")]
    assert [step.alpha_bar for step in steps] == pytest.approx([POWER[500], POWER[0]])
    assert [step.alpha_bar_next for step in steps] == pytest.approx([POWER[0], 1.0])
    assert [step.beta for step in steps] == pytest.approx([1 - POWER[500] / POWER[0], BETAS[0]])


def test_the_schedule_whose_roots_are_evenly_spaced():
    steps = [step for _, step in _schedule.walk("", SCALED)]
    assert [step.beta for step in steps] == pytest.approx(SCALED_BETAS[::-1])
    assert (steps[-1].beta, steps[0].beta) == pytest.approx((0.00085, 0.02))
    assert steps[499].beta == pytest.approx(
        (0.00085**0.5 + (0.02**0.5 - 0.00085**0.5) * 500 / 999) ** 2
    )
    assert [step.alpha_bar for step in steps] == pytest.approx(SCALED_POWER[::-1])
    plain = [step for _, step in _schedule.walk("", ("linear", 1e-4, 0.02))]
    assert plain == [step for _, step in _schedule.walk("")]
    assert plain != steps  # they are not mixed up by the cache


def test_steps_moved_by_an_offset_end_in_the_clean_sample():
    """The last step is at timestep 1, and after it the signal power is 1, not that of t = 0."""
    steps = [step for _, step in _schedule.walk("ddim2+1", SCALED)]
    assert [step.t for step in steps] == [501, 1]
    assert [step.alpha_bar for step in steps] == pytest.approx(SCALED_POWER[[501, 1]])
    assert [step.alpha_bar_next for step in steps] == pytest.approx([SCALED_POWER[1], 1.0])
    variance = (1 - SCALED_POWER[501] / SCALED_POWER[1]) * (1 - SCALED_POWER[1])
    assert steps[0].posterior_variance == pytest.approx(variance / (1 - SCALED_POWER[501]))
    assert steps[1].posterior_variance == 0


X0 = torch.tensor([[[0.5, -0.25], [3.0, -1.0]]])[None]  # [1, 1, 2, 2]


def knowing(x, t, *, variance=0.0, learn_sigma=True):
    """The noise that leads to X0, and an interpolation of the variance."""
    power = POWER[int(t[0])]
    eps = (x - math.sqrt(power) * X0) / math.sqrt(1 - power)
    return torch.cat([eps, torch.full_like(eps, variance)], dim=1) if learn_sigma else eps


def knowing_velocity(x, t, *, variance=None):
    """The velocity of the noise that leads to X0: v = sqrt(a) eps - sqrt(1 - a) x0."""
    power = SCALED_POWER[int(t[0])]
    eps = (x - math.sqrt(power) * X0) / math.sqrt(1 - power)
    v = math.sqrt(power) * eps - math.sqrt(1 - power) * X0
    return v if variance is None else torch.cat([v, torch.full_like(v, variance)], dim=1)


VELOCITY = {"betas": SCALED, "prediction": "v_prediction"}


def noise(i):
    return torch.randn(X0.shape, generator=torch.Generator().manual_seed(i))


@pytest.mark.parametrize("steps", ["1", "2", "10", "ddim20", "3,4"])
@pytest.mark.parametrize("learn_sigma", [True, False])
def test_a_perfect_denoiser_leads_to_its_answer(steps, learn_sigma):
    def denoise(x, t):
        return knowing(x, t, learn_sigma=learn_sigma)

    arguments = {"steps": steps, "step_noise": noise, "learn_sigma": learn_sigma}
    for found in (
        ddpm.sample(denoise, noise(99), **arguments),
        ddim.sample(denoise, noise(99), **arguments),
        ddim.sample(denoise, noise(99), eta=1.0, **arguments),
    ):
        torch.testing.assert_close(found, X0, atol=2e-4, rtol=0)


@pytest.mark.parametrize("steps", ["1", "2", "10", "ddim20", "ddim20+1", "3,4"])
@pytest.mark.parametrize("variance", [None, 0.3])
def test_a_perfect_velocity_leads_to_its_answer(steps, variance):
    def denoise(x, t):
        return knowing_velocity(x, t, variance=variance)

    arguments = {"steps": steps, "step_noise": noise, "learn_sigma": variance is not None}
    arguments |= VELOCITY
    for found in (
        ddpm.sample(denoise, noise(99), **arguments),
        ddpm.sample(denoise, noise(99), fixed_large=False, **arguments),
        ddim.sample(denoise, noise(99), **arguments),
        ddim.sample(denoise, noise(99), eta=1.0, **arguments),
    ):
        torch.testing.assert_close(found, X0, atol=2e-4, rtol=0)


@pytest.mark.parametrize("sampler", [ddpm, ddim])
@pytest.mark.parametrize(
    "wrong", [{"betas": SCALED}, {"prediction": "v_prediction"}], ids=["epsilon", "linear"]
)
def test_another_training_leads_elsewhere(sampler, wrong):
    """What the network predicts, and on which schedule, must both be known."""

    def sample(**how):
        return sampler.sample(
            knowing_velocity, noise(99), steps="5", step_noise=noise, learn_sigma=False, **how
        )

    torch.testing.assert_close(sample(**VELOCITY), X0, atol=2e-4, rtol=0)
    assert (sample(**wrong) - X0).abs().max() > 0.005


def test_the_clean_sample_of_a_velocity_by_hand():
    """a = 0.36: x0 = 0.6 x - 0.8 v = 0.6 * 2 - 0.8 * 0.5 = 0.8, clipped from 1.4 for v = -0.25."""
    step = replace(next(step for _, step in _schedule.walk("1")), alpha_bar=0.36)
    x, v = torch.tensor([2.0, 2.0]), torch.tensor([0.5, -0.25])
    for clip, expected in ((False, [0.8, 1.4]), (True, [0.8, 1.0])):
        found = _schedule.predicted_x0(x, v, step, clip=clip, prediction="v_prediction")
        assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("sampler", [ddpm, ddim])
def test_clipping_bounds_the_predicted_sample(sampler):
    found = sampler.sample(knowing, noise(99), steps="5", step_noise=noise, clip=True)
    torch.testing.assert_close(found, X0.clamp(-1, 1), atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("variance", "fixed_large", "power_of_noise"),
    [
        (1.0, True, "beta"),
        (1.0, False, "beta"),  # a learned variance is the network's whatever it would be else
        (-1.0, True, "posterior_variance"),
        (None, True, "fixed_large_variance"),
        (None, False, "posterior_variance"),
    ],
)
def test_the_noise_of_a_ddpm_step_by_hand(variance, fixed_large, power_of_noise):
    """Two steps; the input of the second shows mean and noise of the first."""
    seen = []

    def denoise(x, t):
        seen.append(x)
        return knowing(x, t, variance=variance or 0.0, learn_sigma=variance is not None)

    ddpm.sample(
        denoise,
        noise(99),
        steps="ddim2",
        step_noise=noise,
        learn_sigma=variance is not None,
        fixed_large=fixed_large,
    )
    first = next(step for _, step in _schedule.walk("ddim2"))
    x, a, b = noise(99), first.alpha_bar, first.alpha_bar_next
    mean = math.sqrt(b) * first.beta / (1 - a) * X0 + math.sqrt(a / b) * (1 - b) / (1 - a) * x
    sigma = math.sqrt(getattr(first, power_of_noise))
    torch.testing.assert_close(seen[1], mean + sigma * noise(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("output", "share"), [(-0.5, 0.25), (0.0, 0.5), (0.5, 0.75)])
def test_a_learned_variance_is_interpolated_in_its_logarithm(output, share):
    """Between -1, the posterior's, and 1, beta: sigma**2 = beta**share * posterior**(1 - share)."""
    seen = []

    def denoise(x, t):
        seen.append(x)
        return knowing(x, t, variance=output)

    for power in (0.0, 1.0):  # the same step without its noise, and with it
        ddpm.sample(denoise, noise(99), steps="ddim2", step_noise=lambda i, p=power: p * noise(i))
    first = next(step for _, step in _schedule.walk("ddim2"))
    sigma = math.sqrt(first.beta**share * first.posterior_variance ** (1 - share))
    torch.testing.assert_close(seen[3] - seen[1], sigma * noise(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_ddim_step_by_hand(eta):
    """x' = sqrt(b) x0 + sqrt(1 - b - s**2) eps + s z, s = eta * sqrt((1-b)/(1-a) (1 - a/b))."""
    seen = []

    def denoise(x, t):
        seen.append(x)
        return knowing(x, t)

    ddim.sample(denoise, noise(99), steps="ddim2", step_noise=noise, eta=eta)
    a, b = POWER[500], POWER[0]
    sigma = eta * math.sqrt((1 - b) / (1 - a) * (1 - a / b))
    eps = (noise(99) - math.sqrt(a) * X0) / math.sqrt(1 - a)
    expected = math.sqrt(b) * X0 + math.sqrt(1 - b - sigma**2) * eps + sigma * noise(0)
    torch.testing.assert_close(seen[1], expected, atol=1e-5, rtol=1e-5)


def test_who_asks_for_noise():
    """DDPM at every step, deterministic DDIM never, stochastic DDIM at all but the last."""
    asked = []

    def record(i):
        asked.append(i)
        return noise(i)

    ddpm.sample(knowing, noise(99), steps="4", step_noise=record)
    assert asked == [0, 1, 2, 3]
    asked.clear()
    ddim.sample(knowing, noise(99), steps="4", step_noise=record)
    assert asked == []
    ddim.sample(knowing, noise(99), steps="4", step_noise=record, eta=1.0)
    assert asked == [0, 1, 2]


def test_the_network_is_called_with_original_timesteps_for_the_whole_batch():
    seen = []

    def denoise(x, t):
        seen.append(t)
        return torch.zeros(len(x), 2, 3)

    ddim.sample(denoise, torch.zeros(5, 1, 3), steps="3", step_noise=noise)
    assert [t.tolist() for t in seen] == [[999] * 5, [500] * 5, [0] * 5]
    assert all(t.dtype == torch.int64 for t in seen)
