"""The losses of training by hand: noise and its variance, velocity, and their weights."""

import math

import numpy as np
import pytest
import torch

from skipdit_cli.train.loss import Diffusion, hybrid_loss, velocity_loss

BETAS = np.linspace(1e-4, 0.02, 1000)
POWER = np.cumprod(1 - BETAS)
SCALED = ("scaled_linear", 0.00085, 0.02)
SCALED_BETAS = np.linspace(0.00085**0.5, 0.02**0.5, 1000) ** 2


def by_hand(x0, t, noise, eps, v):
    """The loss of one number: (noise - eps)**2 plus the bound in bits, in Python's floats."""
    a, before = POWER[t], POWER[t - 1] if t else 1.0
    x = math.sqrt(a) * x0 + math.sqrt(1 - a) * noise
    variance = BETAS[max(t, 1)] * (1 - POWER[max(t, 1) - 1]) / (1 - POWER[max(t, 1)])
    log_true, share = math.log(variance), (v + 1) / 2
    log_model = share * math.log(BETAS[t]) + (1 - share) * log_true
    guess = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
    weight_0 = BETAS[t] * math.sqrt(before) / (1 - a)
    weight_x = (1 - before) * math.sqrt(1 - BETAS[t]) / (1 - a)
    mean_true, mean_model = weight_0 * x0 + weight_x * x, weight_0 * guess + weight_x * x
    if t:
        nats = 0.5 * (
            log_model
            - log_true
            - 1
            + math.exp(log_true - log_model)
            + (mean_true - mean_model) ** 2 / math.exp(log_model)
        )
    else:
        sigma = math.exp(log_model / 2)

        def below(y):
            return 0.5 * (1 + math.erf((y - mean_model) / sigma / math.sqrt(2)))

        low = 0.0 if x0 < -0.999 else below(x0 - 1 / 255)
        high = 1.0 if x0 > 0.999 else below(x0 + 1 / 255)
        nats = -math.log(max(high - low, 1e-12))
    return (noise - eps) ** 2 + nats / math.log(2)


def loss_of(x0, t, noise, eps, v, **weights):
    """One number per batch element, as an image of one pixel."""

    def denoise(x, t):
        return torch.stack([column(eps), column(v)], dim=1).reshape(len(x), 2, 1, 1)

    def column(values):
        return torch.as_tensor(values, dtype=torch.float32).reshape(-1)

    return hybrid_loss(
        denoise,
        column(x0).reshape(-1, 1, 1, 1),
        torch.as_tensor(t).reshape(-1),
        noise=column(noise).reshape(-1, 1, 1, 1),
        diffusion=Diffusion(torch.device("cpu")),
        **weights,
    )


CASES = [
    # x0, t, noise, eps, v
    (0.5, 500, 1.0, 0.7, 0.0),
    (0.5, 500, 1.0, 0.7, 1.0),
    (-0.3, 999, -1.2, -1.0, -1.0),
    (-0.3, 1, -1.2, -1.0, 0.5),
    (0.1, 2, 0.4, 0.4, -1.0),
    (0.2, 0, 0.3, 0.5, 0.3),
    (-1.0, 0, 0.3, 0.5, 0.3),
    (1.0, 0, -0.3, 0.1, -0.7),
]


@pytest.mark.parametrize("case", CASES)
def test_the_loss_of_one_number_by_hand(case):
    assert loss_of(*case).item() == pytest.approx(by_hand(*case), rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("cap", [1.0, 4.0, 50.0])
def test_noisy_samples_weigh_more_up_to_a_cap(cap):
    """An error of the noise by 0.3 costs 0.09 / alpha_bar, the error of the velocity."""
    weights = []
    for t in (0, 300, 600, 999):
        case = (0.5, t, 1.0, 0.7, 0.0)
        more = loss_of(*case, noisy_weight=cap).item() - loss_of(*case).item()
        weights.append(1 + more / 0.09)
        assert weights[-1] == pytest.approx(min(1 / POWER[t], cap), rel=2e-3, abs=2e-3)
    assert weights[-1] == pytest.approx(cap, rel=1e-3)


def test_the_loss_is_one_number_per_sample():
    columns = list(zip(*CASES, strict=True))
    found = loss_of(*(list(column) for column in columns))
    assert found.shape == (len(CASES),)
    assert found.tolist() == pytest.approx([loss_of(*case).item() for case in CASES], rel=1e-5)


def test_a_perfect_guess_costs_nothing():
    """The right noise, and the true posterior's variance (v = -1)."""
    assert loss_of(0.5, 500, 1.0, 1.0, -1.0).item() == pytest.approx(0, abs=1e-5)
    assert loss_of(0.5, 500, 1.0, 1.0, 1.0).item() > 1e-8  # any other variance costs


def test_the_bound_trains_the_variance_alone():
    """The gradient at eps is that of the squared error, 2 (eps - noise) / numbers."""
    eps, v = torch.tensor([0.7], requires_grad=True), torch.tensor([0.2], requires_grad=True)
    loss_of(0.5, 100, 1.0, eps, v).sum().backward()
    assert eps.grad.item() == pytest.approx(2 * (0.7 - 1.0))
    assert abs(v.grad.item()) > 1e-6


def test_the_channel_dimension_of_clips():
    def denoise(x, t):
        return torch.cat([0.5 * x, 0.1 * x], dim=2)

    x0 = torch.linspace(-0.9, 0.9, 24).reshape(2, 3, 1, 2, 2)
    noise, t = x0.flip(0) * 2, torch.tensor([400, 800])
    diffusion = Diffusion(torch.device("cpu"))
    clips = hybrid_loss(denoise, x0, t, noise=noise, diffusion=diffusion, channel_dim=2)

    def folded(x, t):  # the same clips as images of twelve pixels
        return torch.cat([0.5 * x, 0.1 * x], dim=1)

    images = hybrid_loss(
        folded, x0.reshape(2, 1, 3, 4), t, noise=noise.reshape(2, 1, 3, 4), diffusion=diffusion
    )
    torch.testing.assert_close(clips, images)


@pytest.mark.parametrize(
    ("betas", "expected"), [(("linear", 1e-4, 0.02), BETAS), (SCALED, SCALED_BETAS)]
)
def test_the_tables_of_a_schedule(betas, expected):
    tables, power = Diffusion(torch.device("cpu"), betas), np.cumprod(1 - expected)
    before = np.append(1, power[:-1])
    close = {"rtol": 1e-6, "atol": 1e-7}
    np.testing.assert_allclose(tables.signal, np.sqrt(power), **close)
    np.testing.assert_allclose(tables.noise, np.sqrt(1 - power), **close)
    np.testing.assert_allclose(tables.log_beta, np.log(expected), **close)
    variance = expected * (1 - before) / (1 - power)
    np.testing.assert_allclose(tables.log_posterior[1:], np.log(variance[1:]), **close)
    assert tables.log_posterior[0] == tables.log_posterior[1]  # there is none at the last step
    np.testing.assert_allclose(tables.mean_x0, expected * np.sqrt(before) / (1 - power), **close)
    mean_x = (1 - before) * np.sqrt(1 - expected) / (1 - power)
    np.testing.assert_allclose(tables.mean_x, mean_x, **close)


def test_the_schedule_is_dit_s_unless_told_otherwise():
    plain, dit = (
        Diffusion(torch.device("cpu")),
        Diffusion(torch.device("cpu"), ("linear", 1e-4, 0.02)),
    )
    assert torch.equal(plain.signal, dit.signal)


# The velocity

X0 = torch.linspace(-0.9, 0.9, 24, dtype=torch.float32).reshape(2, 1, 3, 4)
NOISE, TIMES = X0.flip(0) * 2, torch.tensor([30, 800])


def velocity(x0, noise, t):
    """sqrt(a) noise - sqrt(1 - a) x0, with the powers of the scaled-linear schedule."""
    power = torch.from_numpy(np.cumprod(1 - SCALED_BETAS))[t].view(-1, 1, 1, 1)
    return (power.sqrt() * noise - (1 - power).sqrt() * x0).float()


def velocity_loss_of(guess, **others):
    seen = []

    def denoise(x, t):
        seen.append((x, t))
        return guess

    diffusion = Diffusion(torch.device("cpu"), SCALED)
    found = velocity_loss(denoise, X0, TIMES, noise=NOISE, diffusion=diffusion, **others)
    [(x, t)] = seen
    power = torch.from_numpy(np.cumprod(1 - SCALED_BETAS))[TIMES].view(-1, 1, 1, 1)
    expected = power.sqrt() * X0 + (1 - power).sqrt() * NOISE
    torch.testing.assert_close(x.double(), expected, atol=1e-6, rtol=0)
    assert t is TIMES
    return found


def test_the_exact_velocity_costs_nothing():
    exact = velocity(X0, NOISE, TIMES)
    torch.testing.assert_close(velocity_loss_of(exact), torch.zeros(2), atol=1e-12, rtol=0)
    drawn = torch.cat([exact, torch.full_like(exact, 9.0)], dim=1)  # a variance has no part in it
    torch.testing.assert_close(velocity_loss_of(drawn), torch.zeros(2), atol=1e-12, rtol=0)


def test_the_velocity_loss_is_the_squared_error_of_each_sample():
    wrong = velocity(X0, NOISE, TIMES)
    wrong[0] += 0.5  # everywhere
    wrong[1, 0, 0, 0] -= 2.0  # in one of twelve pixels
    found = velocity_loss_of(wrong)
    torch.testing.assert_close(found, torch.tensor([0.25, 4 / 12]), atol=1e-6, rtol=0)


def test_the_velocity_loss_by_its_signal_to_noise_ratio():
    """The weight that the noise prediction's loss has, min(snr, g) / snr, on the scale of the
    velocity, whose error is (snr + 1) / snr times as large: min(snr, g) / (snr + 1)."""
    wrong = velocity(X0, NOISE, TIMES) + 0.5
    power = np.cumprod(1 - SCALED_BETAS)[TIMES.numpy()]
    snr = power / (1 - power)
    assert snr[0] > 5 > snr[1]
    expected = 0.25 * np.minimum(snr, 5.0) / (snr + 1)
    found = velocity_loss_of(wrong, min_snr=5.0)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    assert expected[1] == pytest.approx(0.25 * power[1])  # below the cap: the error of eps itself


def test_the_velocity_of_clips():
    """Channels along dimension 2: the same numbers as images of twelve pixels."""
    clips, noise = X0.reshape(2, 3, 1, 2, 2), NOISE.reshape(2, 3, 1, 2, 2)
    diffusion = Diffusion(torch.device("cpu"), SCALED)

    def denoise(x, t):
        return torch.cat([0.5 * x, 9 + x], dim=2)

    found = velocity_loss(denoise, clips, TIMES, noise=noise, diffusion=diffusion, channel_dim=2)
    images = velocity_loss(lambda x, t: 0.5 * x, X0, TIMES, noise=NOISE, diffusion=diffusion)
    torch.testing.assert_close(found, images)


def test_the_losses_of_the_official_code():
    """`training_losses` of OpenSparseLLMs/Skip-DiT (72609de) class-to-image/diffusion, as
    `train.py` creates it, gave these numbers of the same inputs."""
    n = torch.arange(6 * 4 * 8 * 8, dtype=torch.float32).view(6, 4, 8, 8)
    weights = torch.sin(torch.arange(32.0).view(8, 4)) * 0.5
    found = hybrid_loss(
        lambda x, t: torch.einsum("oc,bchw->bohw", weights, x).tanh(),
        torch.sin(n * 0.7),
        torch.tensor([0, 1, 37, 500, 750, 999]),
        noise=1.4 * torch.cos(n * 1.3),
        diffusion=Diffusion(torch.device("cpu")),
    )
    official = [3.9322, 2.16409, 1.42316, 2.03125, 2.07357, 2.08076]
    assert found.tolist()[1:] == pytest.approx(official[1:], rel=1e-5)
    # at t = 0 it takes an approximation of the normal distribution, and we the distribution
    assert found[0].item() == pytest.approx(official[0], rel=1e-3)
