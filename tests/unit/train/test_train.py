"""Training: the loss by hand, the two stages, the moving average, and resuming bit for bit."""

import json
import math
import os
import sys
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from skipdit_cli.checkpoints import catalog, local, networks
from skipdit_cli.embedded import captions
from skipdit_cli.errors import MissingAssetError, StoreError, UsageError
from skipdit_cli.generate import text
from skipdit_cli.train import classifier, data, loop
from skipdit_cli.train.loop import train
from skipdit_cli.train.loss import Diffusion, hybrid_loss, velocity_loss
from skipdit_cli.train.settings import TrainingSettings

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


# The loop


@pytest.fixture
def vanilla(monkeypatch):
    """Vanilla models of random weights in place of the embedded ones."""
    models = {}
    for name in ("digits", "captioned-digits"):
        models[name] = networks.build(catalog.card(name), device="cpu")
        generator = torch.Generator().manual_seed(0)
        for parameter in models[name].parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)
    monkeypatch.setattr(loop, "load", lambda card: models[card.name])
    return models


@pytest.fixture
def often(monkeypatch):
    """A point of the curve and a checkpoint at every step."""
    monkeypatch.setattr(loop, "CURVE_EVERY", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 1)


SKIP = TrainingSettings("digits-skip", start="digits", skip_steps=3, steps=4, batch_size=2)
VANILLA = TrainingSettings("digits", steps=4, batch_size=2)
CLIPS = TrainingSettings("moving-digits", steps=4, batch_size=1)
CAPTIONED = TrainingSettings(
    "captioned-digits-skip", start="captioned-digits", skip_steps=3, steps=4, batch_size=2
)
PAINTED = TrainingSettings("painted-digits", steps=4, batch_size=2)


class Killed(Exception):
    pass


def train_and_watch(settings, folder):
    """The checkpoint after every step but the last, and the final record."""
    seen = []

    def progress(step, loss):
        if step > 1:
            seen.append(torch.load(folder / "checkpoint.pt", weights_only=True))
            assert seen[-1]["state"]["step"] == step - 1

    train(settings, folder, progress=progress)
    return seen


STAGED = pytest.mark.parametrize("settings", [SKIP, CAPTIONED], ids=["images", "clips of text"])


@pytest.mark.few(1)
@STAGED
def test_stage_one_trains_the_skip_branches_alone(vanilla, often, tmp_path, settings):
    checkpoints = train_and_watch(settings, tmp_path)
    start = vanilla[settings.start].state_dict()
    parameters = {name for name, _ in vanilla[settings.start].named_parameters()}
    fresh = networks.build(catalog.card(settings.model), device="cpu").state_dict()
    skip = [name for name in fresh if ".skip." in name]
    assert len(skip) == len(fresh) - len(start) > 0
    for content in checkpoints[: settings.skip_steps]:
        assert all(torch.equal(content["model"][name], start[name]) for name in start)
    first, last = checkpoints[0], checkpoints[settings.skip_steps - 1]
    for name in skip:
        assert not torch.equal(last["model"][name], first["model"][name])
    for before, after in pairwise(checkpoints[settings.skip_steps - 1 :]):
        unchanged = [n for n in parameters if torch.equal(before["model"][n], after["model"][n])]
        assert not unchanged  # stage two trains everything
        assert not any(torch.equal(before["model"][n], after["model"][n]) for n in skip)


@pytest.mark.few(1)
@STAGED
def test_a_skip_model_starts_from_the_vanilla_weights(vanilla, often, tmp_path, settings):
    first = train_and_watch(settings, tmp_path)[0]["model"]
    start = vanilla[settings.start].state_dict()
    assert all(torch.equal(first[name], value) for name, value in start.items())


@pytest.mark.parametrize("ema", [0.999, 0.15])
def test_the_moving_average(vanilla, often, tmp_path, ema):
    """average <- d average + (1 - d) weights with d = min(ema, (1 + step) / (10 + step))."""
    settings = TrainingSettings("digits", steps=5, batch_size=2, ema=ema)
    checkpoints = train_and_watch(settings, tmp_path)
    torch.manual_seed(settings.seed)
    start = networks.build(catalog.card("digits"), device="cpu").state_dict()
    for name in ("blocks.0.attn.qkv.weight", "x_embedder.proj.bias", "final_layer.linear.weight"):
        average = start[name].double()
        for step, content in enumerate(checkpoints):
            decay = min(ema, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * content["model"][name].double()
            torch.testing.assert_close(
                content["average"][name].double(), average, atol=1e-7, rtol=0
            )
    decays = [min(ema, (1 + step) / (10 + step)) for step in range(4)]
    assert decays == ([0.1, 2 / 11, 3 / 12, 4 / 13] if ema == 0.999 else [0.1, 0.15, 0.15, 0.15])


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SKIP, id="skip"),
        pytest.param(VANILLA, id="vanilla"),
        pytest.param(CLIPS, id="clips"),
        pytest.param(CAPTIONED, id="clips of text", marks=pytest.mark.slow),
        pytest.param(PAINTED, id="images of text", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_training_ends_in_the_same_bits(vanilla, tmp_path, monkeypatch, settings):
    """Killed right after a checkpoint, between two, and in both stages."""
    monkeypatch.setattr(loop, "CURVE_EVERY", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 2)
    train(settings, tmp_path / "whole")
    total = settings.skip_steps + settings.steps

    def killed_at(moment):
        def progress(step, loss):
            if step == moment:
                raise Killed

        return progress

    for moment in (1, 3, 4, total):
        with pytest.raises(Killed):
            train(settings, tmp_path / "killed", progress=killed_at(moment))
        torch.manual_seed(moment)  # whatever state the next process is in
    finished = train(settings, tmp_path / "killed")
    name = local.WEIGHTS_FILE
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    whole, killed = (
        json.loads((tmp_path / folder / "training.json").read_text())
        for folder in ("whole", "killed")
    )
    assert killed["loss_curve"] == whole["loss_curve"]
    assert [step for step, _ in whole["loss_curve"]] == list(range(1, total + 1))
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()

    stored = load_file(tmp_path / "killed" / name)  # what is written is the average, in fp16
    assert {value.dtype for value in stored.values()} == {torch.float16}
    for key, value in finished.state_dict().items():
        assert torch.equal(stored[key], value.half())


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(vanilla, often, tmp_path):
    """The operating system itself refuses; what torch makes of that says nothing of the disk."""
    resource = pytest.importorskip("resource")
    folder, limits = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills_up(step, loss):
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    try:
        with pytest.raises(StoreError, match=r"checkpoint\.pt: file too large; free some space"):
            train(VANILLA, folder, progress=fills_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in folder.iterdir()] == ["checkpoint.pt"]
    (folder / ".checkpoint.pt.12.tmp").touch()  # as a killed one leaves it
    train(VANILLA, folder)
    train(VANILLA, tmp_path / "whole")
    assert (folder / local.WEIGHTS_FILE).read_bytes() == (
        tmp_path / "whole" / local.WEIGHTS_FILE
    ).read_bytes()
    left = {path.name for path in folder.iterdir()}
    assert left == {"config.json", "training.json", local.WEIGHTS_FILE}


def test_no_point_of_the_curve_is_lost_at_a_checkpoint():
    assert loop.CHECKPOINT_EVERY % loop.CURVE_EVERY == 0


def test_the_record_says_how_the_model_was_made(vanilla, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CURVE_EVERY", 2)
    train(VANILLA, tmp_path, command="skipdit train --model digits")
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["command"] == "skipdit train --model digits"
    assert TrainingSettings(**record["settings"]) == VANILLA
    assert record["parameters"] == sum(p.numel() for p in vanilla["digits"].parameters())
    assert [step for step, _ in record["loss_curve"]] == [2, 4]
    assert (tmp_path / "config.json").is_file()


def test_a_model_is_trained_further(vanilla, often, tmp_path):
    train(VANILLA, tmp_path, command="the first")
    further = TrainingSettings("digits", start="digits", steps=4, batch_size=2, learning_rate=1e-30)
    train(further, tmp_path, command="the second")
    made = json.loads((tmp_path / "training.json").read_text())
    assert (made["before"]["command"], made["command"]) == ("the first", "the second")
    assert [step for step, _ in made["loss_curve"]] == [1, 2, 3, 4]
    saved = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    for key, value in vanilla["digits"].state_dict().items():
        assert torch.equal(saved[key], value.half())  # it began with these weights


@pytest.mark.slow
def test_training_learns(monkeypatch, tmp_path):
    """A constant image: the loss of predicting nothing is 1 plus the bound; it must fall."""
    white = {"c2i": lambda count, _: (torch.ones(count, 1, 16, 16), torch.zeros(count).long())}
    monkeypatch.setattr(loop, "DATA", white)
    monkeypatch.setattr(loop, "CURVE_EVERY", 10)
    losses = []
    settings = TrainingSettings("digits", steps=60, batch_size=16, learning_rate=0.01)
    train(settings, tmp_path, progress=lambda _, loss: losses.append(loss))
    assert losses[0] > 0.9
    assert losses[-1] < 0.5 * losses[0]


def test_batches_depend_on_seed_and_step_alone():
    """And the share of dropped labels is drop_label: 300 draws at 0.1, five deviations of 5.2."""
    seen = []

    class Network(nn.Module):
        CHANNEL_DIM = 1

        def forward(self, x, t, class_labels, return_dict):
            seen.append((x, t, class_labels))
            return (torch.cat([x, x], dim=1),)

    diffusion = Diffusion(torch.device("cpu"))
    condition = loop._conditions(catalog.card("digits"), torch.device("cpu"))

    def batch(seed, step):
        settings = TrainingSettings("digits", batch_size=300, seed=seed)
        loop._loss(Network(), settings, step, diffusion, condition)
        return seen.pop()

    first = batch(0, 7)
    assert all(map(torch.equal, first, batch(0, 7)))
    for other in (batch(0, 8), batch(1, 7)):
        assert not any(map(torch.equal, first, other))
    _, t, labels = first
    assert 4 < (labels == 10).sum() < 56
    assert labels.max() == 10
    assert 0 <= t.min() < 50 < 950 < t.max() <= 999


@pytest.mark.parametrize("name", ["captioned-digits", "painted-digits"])
def test_captions_become_texts_and_dropped_ones_the_empty_text(name, tmp_path):
    """Row by row what sampling gives the network: of the caption, or of the null half."""
    card, asked = catalog.card(name), captions.LISTS[catalog.card(name).task]
    condition = loop._conditions(card, torch.device("cpu"))
    labels, dropped = torch.tensor([5, 0, 29, 5]), torch.tensor([False, False, True, True])
    found = condition(labels, dropped)
    text.encode(card, asked, root=tmp_path)
    given, null = text.conditions(card, asked, root=tmp_path)
    assert found.keys() == given.keys()
    for key, value in found.items():
        rows = [given[key][5], given[key][0], null[key][29], null[key][5]]
        assert torch.equal(value, torch.stack(rows))
        assert value.dtype == given[key].dtype
    states = found["encoder_hidden_states"]
    assert not torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[3])


@pytest.mark.parametrize(
    ("name", "predicts"),
    [("digits", "noise"), ("captioned-digits", "noise"), ("painted-digits", "velocity")],
)
def test_each_model_is_trained_on_what_it_is_to_predict(monkeypatch, name, predicts):
    """Black is x0 = 0 here, so x = s noise and both answers can be read off x."""
    card = catalog.card(name)
    shape = networks.build(card).inputs(3)["hidden_states"].shape
    zero = {card.task: lambda count, _: (torch.zeros(shape), torch.zeros(count).long())}
    monkeypatch.setattr(loop, "DATA", zero)
    diffusion = Diffusion(torch.device("cpu"), card.sampling.betas)

    class Network(nn.Module):
        CHANNEL_DIM = 1

        def forward(self, x, t, return_dict, **conditions):
            shape = -1, *[1] * (x.dim() - 1)
            signal, spread = diffusion.signal[t].view(shape), diffusion.noise[t].view(shape)
            guess = x / spread * (signal if predicts == "velocity" else 1)
            return (torch.cat([guess, torch.full_like(x, -1.0)], dim=1),)

    condition = loop._conditions(card, torch.device("cpu"))
    settings = TrainingSettings(name, batch_size=3)
    assert loop._loss(Network(), settings, 1, diffusion, condition) < 1e-3
    predicts = {"noise": "velocity", "velocity": "noise"}[predicts]
    assert loop._loss(Network(), settings, 1, diffusion, condition) > 1e-2


def test_the_learning_rate_warms_up_and_falls_in_each_stage():
    settings = TrainingSettings("digits-skip", start="digits", skip_steps=1000, steps=4000)
    rate = [loop._schedule(step, settings) for step in range(5000)]
    assert rate[0] == pytest.approx(1 / 200)
    assert rate[199] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.199)))
    assert rate[500] == pytest.approx(0.5)
    assert rate[1000] == pytest.approx(1 / 200)
    assert rate[3000] == pytest.approx(0.5)
    assert 0 < rate[4999] < 1e-6


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "digit"}, "--model: unknown model 'digit'; did you mean 'digits'?"),
        (
            {"model": "dit-xl-2"},
            "--model: dit-xl-2 cannot be trained here: its data is not shipped; "
            "take an embedded model, such as digits-skip",
        ),
        ({"model": "digits-skip"}, "--start, --skip-steps: skip models, and only they, start"),
        ({"model": "digits-skip", "start": "digits"}, "--start, --skip-steps: skip models"),
        (
            {"model": "digits", "start": "digits", "skip_steps": 5},
            "--start, --skip-steps: skip models, and only they, start from a vanilla model and "
            "have a first stage; to train digits further leave out --skip-steps",
        ),
        ({"model": "digits", "skip_steps": 5}, "--start, --skip-steps: skip models"),
        (
            {"model": "digits-skip", "start": "digts", "skip_steps": 5},
            "--start: unknown model 'digts'; did you mean 'digits'?",
        ),
        *(
            (
                {"model": "painted-digits", "start": "captioned-digits"} | own,
                "--start, --skip-steps: skip models, and only they, start from a vanilla model and "
                "have a first stage; models with native skip branches are trained at once",
            )
            for own in ({}, {"skip_steps": 5})
        ),
        ({"model": "captioned-digits-skip"}, "--start, --skip-steps: skip models, and only they"),
        (
            {"model": "captioned-digits-skip", "start": "moving-digits", "skip_steps": 5},
            "--start: moving-digits is not the vanilla model of captioned-digits-skip",
        ),
        *(
            (
                {"model": "digits-skip", "start": start, "skip_steps": 5},
                f"--start: {start} is not the vanilla model of digits-skip",
            )
            for start in ("moving-digits-skip", "moving-digits", "dit-xl-2")
        ),
        (
            {"model": "painted-digits", "noisy_weight": 50.0},
            "--noisy-weight: painted-digits predicts velocity, whose loss weighs noisy samples",
        ),
        (
            {"model": "digits", "noisy_weight": 0.5},
            "--noisy-weight: 0.5 is below 1; take 1 or more",
        ),
        ({"model": "digits", "steps": 0}, "--steps, --batch-size: steps and batch size must be 1"),
        (
            {"model": "digits", "batch_size": 0},
            "--steps, --batch-size: steps and batch size must be 1",
        ),
    ],
)
def test_settings_without_meaning(arguments, message):
    with pytest.raises(UsageError) as caught:
        TrainingSettings(**arguments)
    assert str(caught.value).startswith(message)


def test_a_folder_with_other_settings_is_not_continued(vanilla, often, tmp_path):
    def interrupt(step, loss):
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        train(VANILLA, tmp_path, progress=interrupt)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    other = TrainingSettings("digits", steps=5, batch_size=2)
    with pytest.raises(UsageError) as caught:
        train(other, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'checkpoint.pt'}: the folder holds a run with other settings; "
        "delete it or choose another --out"
    )
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


class Hostile:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_no_code_of_a_checkpoint_is_run(vanilla, tmp_path):
    torch.save({"settings": Hostile(tmp_path / "ran")}, tmp_path / "checkpoint.pt")
    with suppress(Exception):  # whatever it is told as
        train(VANILLA, tmp_path)
    assert not (tmp_path / "ran").exists()


# Data


def draw(kind, seed, count=64):
    return data.DATA[kind](count, torch.Generator().manual_seed(seed))


def digits_of(kind, labels):
    """The digits that classes are, or that captions name."""
    places = labels.tolist()
    if kind not in captions.LISTS:
        return places
    return [captions.digit(captions.LISTS[kind][place]) for place in places]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("c2i", (1, 16, 16)),
        ("c2v", (8, 1, 16, 16)),
        ("t2i", (1, 16, 16)),
        ("t2v", (1, 8, 16, 16)),
    ],
)
def test_draws_are_digits_and_repeat_with_the_seed(kind, shape):
    images, labels = draw(kind, 0)
    again, labels_again = draw(kind, 0)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)
    assert not torch.equal(images, draw(kind, 1)[0])
    assert images.shape == (64, *shape)
    assert (images.min(), images.max() > 0.9) == (-1, True)
    assert images.max() <= 1
    assert set(digits_of(kind, labels)) == set(range(10))


@pytest.mark.parametrize(("kind", "plain"), [("t2i", "c2i"), ("t2v", "c2v")])
def test_captions_name_the_digit_that_is_shown(kind, plain):
    """The same draw as that of the class-conditional data, whose classes are known to be right."""
    images, labels = draw(kind, 0)
    same, classes = draw(plain, 0)
    assert torch.equal(images.transpose(1, 2) if kind == "t2v" else images, same)
    assert digits_of(kind, labels) == classes.tolist()


def test_every_caption_is_drawn_as_often():
    for kind, asked in captions.LISTS.items():
        _, labels = draw(kind, 0, count=100 * len(asked))
        counts = labels.bincount(minlength=len(asked))
        assert len(counts) == len(set(asked)) == len(asked)
        assert 60 < counts.min() <= counts.max() < 145  # 100 in the mean, four deviations


def test_moving_digits_move_one_way_and_stay_whole():
    """The way that their captions say, for those who see them."""
    clips, labels = draw("t2v", 0)
    clips = clips.transpose(1, 2)
    asked = [captions.direction(captions.VIDEO[place]) for place in labels.tolist()]
    light = (clips[:, :, 0] + 1) / 2  # [N, 8, 16, 16]
    mass = light.sum(dim=(2, 3))
    pixel = torch.arange(16.0)
    row = (light.sum(3) * pixel).sum(2) / mass  # the centre of each frame
    column = (light.sum(2) * pixel).sum(2) / mass
    moves = torch.stack([row[:, -1] - row[:, 0], column[:, -1] - column[:, 0]], dim=1)
    assert ((moves.abs() > 2).sum(1) == 1).all()  # along one axis
    assert (moves.abs().min(1).values < 0.5).all()  # and not along the other
    found = [tuple(move) for move in moves.sign().where(moves.abs() > 2, 0).tolist()]
    assert found == asked
    assert set(found) == {(0, 1), (0, -1), (1, 0), (-1, 0)}
    assert (mass / mass.mean(1, keepdim=True) - 1).abs().max() < 0.1  # nothing leaves the frame


def test_the_classifier_s_files(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "REFERENCE_IMAGES", 40)
    monkeypatch.setattr(classifier, "REFERENCE_CLIPS", 12)
    accuracy = classifier.train_classifier(tmp_path, steps=2, seed=3, command="skipdit train")
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["accuracy_digits"] == accuracy
    assert (record["seed"], record["steps"], record["command"]) == (3, 2, "skipdit train")
    model = classifier.Classifier()
    state = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    model.load_state_dict({key: value.float() for key, value in state.items()})
    images, labels = data.digits(40, torch.Generator().manual_seed(4))
    pixels = (
        (127.5 * images + 128).clamp(0, 255).to(torch.uint8).movedim(1, 3).expand(-1, -1, -1, 3)
    )
    features = classifier.image_features(model, pixels.numpy()).astype(np.float64)
    stored = load_file(tmp_path / "reference_digits.safetensors")
    assert int(stored["n"]) == 40
    np.testing.assert_allclose(stored["mean"], features.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(stored["cov"], np.cov(features.T, ddof=1), rtol=1e-6, atol=1e-9)
    assert accuracy == float((model(images).argmax(1) == labels).float().mean())
    moving = load_file(tmp_path / "reference_moving-digits.safetensors")
    assert (int(moving["n"]), moving["mean"].shape, moving["cov"].shape) == (12, (128,), (128, 128))


def test_without_scikit_learn_the_error_names_what_installs_it(monkeypatch):
    """Whoever has the wheel alone can do it as well."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    data._load.cache_clear()
    with pytest.raises(MissingAssetError) as caught:
        data._load()
    assert str(caught.value) == (
        "training needs scikit-learn's digits; run `pip install scikit-learn`"
    )
