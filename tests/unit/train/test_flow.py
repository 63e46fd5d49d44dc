"""Flow matching: its loss by hand and beside diffusers' scheduler; how a pipeline is trained."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file

from skipdit_cli.checkpoints import catalog, local, pipeline
from skipdit_cli.embedded import captions, shipped
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.text import quiet
from skipdit_cli.sites import site_modules
from skipdit_cli.train import network, pipelines, source
from skipdit_cli.train.loop import Watch, train
from skipdit_cli.train.loss import Flow, flow_loss
from skipdit_cli.train.settings import TrainingSettings

CPU = torch.device("cpu")
FOLDER = shipped.embedded() / "flow-digits"
WEIGHTS = f"transformer/{local.WEIGHTS_FILE}"
SHORT = TrainingSettings("flow-digits", steps=4, batch_size=2)
TIMES = torch.tensor([0, 249, 999])


def tensors(seed, shape=(3, 2, 2, 2)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# The loss


def test_the_exact_velocity_costs_nothing():
    x0, noise = tensors(0), tensors(1)
    flow = Flow(CPU, shift=3.0)
    exact = flow_loss(lambda x, t: noise - x0, x0, TIMES, noise=noise, flow=flow)
    assert exact.tolist() == [0, 0, 0]
    wrong = flow_loss(lambda x, t: noise - x0 + 0.5, x0, TIMES, noise=noise, flow=flow)
    torch.testing.assert_close(wrong, torch.full((3,), 0.25))


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_loss_by_hand(shift):
    """Of a network that answers 2 x - t / 500, in Python's floats."""
    x0, noise = tensors(0, (3, 1)), tensors(1, (3, 1))
    found = flow_loss(
        lambda x, t: 2 * x - t[:, None] / 500, x0, TIMES, noise=noise, flow=Flow(CPU, shift=shift)
    )
    for row, t in enumerate(TIMES.tolist()):
        even = (t + 1) / 1000
        s = shift * even / (1 + (shift - 1) * even)
        a, b = x0[row].item(), noise[row].item()
        answer = 2 * ((1 - s) * a + s * b) - 1000 * s / 500
        assert found[row].item() == pytest.approx((b - a - answer) ** 2, rel=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_noise_and_times_are_those_of_the_scheduler(shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    flow, x0, noise = Flow(CPU, shift=shift), tensors(0), tensors(1)
    torch.testing.assert_close(flow.noise, scheduler.sigmas.flip(0))
    torch.testing.assert_close(flow.timesteps, scheduler.timesteps.flip(0))
    given = []
    flow_loss(lambda x, t: given.append((x, t)) or x, x0, TIMES, noise=noise, flow=flow)
    [(x, told)] = given
    there = scheduler.timesteps.flip(0)[TIMES]
    torch.testing.assert_close(told, there)
    torch.testing.assert_close(x, scheduler.scale_noise(x0, there, noise))


@pytest.mark.parametrize("steps", [1, 7])
def test_the_velocity_leads_from_noise_to_the_sample(steps):
    x0, x = tensors(0), tensors(1)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    velocity = x - x0
    for t in scheduler.timesteps:
        x = scheduler.step(velocity, t, x).prev_sample
    torch.testing.assert_close(x, x0)


def test_times_are_drawn_logit_normal():
    """Their logit is standard normal: 68.3 % of them within one deviation, half below 0.5."""
    t = Flow.draw(20_000, torch.Generator().manual_seed(0))
    low, high = (1000 / (1 + math.exp(-z)) for z in (-1, 1))
    assert ((low < t) & (t < high)).float().mean().item() == pytest.approx(0.683, abs=0.015)
    assert (t < 500).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert 0 <= t.min() < t.max() <= 999


# What is trained on


@pytest.fixture(scope="module")
def learnt():
    return pipelines.Captioned(catalog.card("flow-digits"))


@pytest.fixture(scope="module")
def pipe():
    with quiet():
        return DiffusionPipeline.from_pretrained(FOLDER)


def test_latents_are_the_digits_as_the_pipeline_decodes_them(learnt, pipe):
    latents, labels = learnt.batch(3, range(4), size=4, seed=0)
    digits, places = source.Drawn(catalog.card("painted-digits")).batch(3, range(4), size=4, seed=0)
    assert latents.shape == (4, 4, 8, 8)
    assert (labels % len(captions.IMAGE)).tolist() == places.tolist()
    with torch.no_grad():
        decoded = pipe.vae.decode(
            latents / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
        ).sample
    assert (decoded - digits).abs().mean() < 0.03  # of a range of 2; one channel says all
    many, _ = learnt.batch(0, range(64), size=64, seed=1)
    assert many.mean().item() == pytest.approx(0, abs=0.1)
    assert many.std().item() == pytest.approx(1, abs=0.1)


def test_rows_are_those_of_the_whole_batch(learnt):
    """With as many tokens of text, which other steps have more or less of."""
    whole, labels = learnt.batch(5, range(6), size=6, seed=2)
    for rows in (range(2), range(2, 6)):
        part, its = learnt.batch(5, rows, size=6, seed=2)
        torch.testing.assert_close(part, whole[rows.start : rows.stop])
        assert its.tolist() == labels[rows.start : rows.stop].tolist()
    lengths = [
        learnt.batch(step, range(1), size=1, seed=0)[1].item() // len(captions.IMAGE)
        for step in range(60)
    ]
    assert set(lengths) == set(range(len(pipelines.LENGTHS)))


@pytest.mark.parametrize("place", [0, len(pipelines.LENGTHS) - 1])
def test_captions_are_encoded_as_the_pipeline_does(learnt, pipe, place):
    """And dropped ones as the empty text, which is the null half of its guidance."""
    length, known = pipelines.LENGTHS[place], len(captions.IMAGE)
    labels, dropped = torch.tensor([4, 29, 4]) + place * known, torch.tensor([False, False, True])
    found = learnt.conditions(labels, dropped)
    with torch.no_grad():
        states, null, pooled, pooled_null = pipe.encode_prompt(
            [captions.IMAGE[4], captions.IMAGE[29]], None, None, max_sequence_length=length
        )
    expected = torch.cat([states, null[:1]]), torch.cat([pooled, pooled_null[:1]])
    torch.testing.assert_close(found["encoder_hidden_states"], expected[0])
    torch.testing.assert_close(found["pooled_projections"], expected[1])
    assert states.shape[1] == length + 8


def test_it_is_trained_on_the_velocity(monkeypatch, tmp_path):
    """Latents are 0 here, so x = s noise, and the velocity is x / s."""
    monkeypatch.setattr(
        pipelines.Captioned,
        "batch",
        lambda self, step, rows, **_: (torch.zeros(len(rows), 4, 8, 8), torch.zeros(2).long()),
    )
    monkeypatch.setattr(network.Trained, "update", lambda self, step: torch.zeros(()))
    losses = []
    watch = Watch(log_every=1, on_log=lambda logged: losses.append(logged.loss))
    for name, answer in (
        ("velocity", lambda x, t: x * 1000 / t.view(-1, 1, 1, 1)),
        ("noise", lambda x, t: x),
    ):
        monkeypatch.setattr(
            network.Trained,
            "__call__",
            lambda self, x, t, answer=answer, **_: (answer(x, t).requires_grad_(),),
        )
        train(SHORT, tmp_path / name, watch=watch)
    assert max(losses[:4]) < 1e-6
    assert min(losses[4:]) > 1e-2


# What comes out


@pytest.mark.slow  # as of networks: test_loop.py
def test_an_interrupted_training_ends_in_the_same_bits(tmp_path):
    class Killed(Exception):
        pass

    def killed_at(moment):
        def on_log(logged):
            if logged.step == moment:
                raise Killed

        return Watch(log_every=1, checkpoint_every=1, on_log=on_log)

    train(SHORT, tmp_path / "whole", watch=killed_at(None))
    with pytest.raises(Killed):
        train(SHORT, tmp_path / "killed", watch=killed_at(3))
    torch.manual_seed(3)  # whatever state the next process is in
    train(SHORT, tmp_path / "killed", watch=killed_at(None))
    whole, killed = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("whole", "killed"))
    assert whole == killed
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder that training wrote in half precision, and what it returned."""
    folder = tmp_path_factory.mktemp("made")
    return folder, train(SHORT, folder, watch=Watch(half=True))


def test_a_whole_pipeline_comes_out_and_all_but_the_transformer_is_as_it_was(made):
    folder, average = made
    for name in {*pipeline.parts(FOLDER)} - {"transformer"}:
        files = sorted(path.name for path in (FOLDER / name).iterdir())
        assert files == sorted(path.name for path in (folder / name).iterdir())
        assert all(
            (FOLDER / name / file).read_bytes() == (folder / name / file).read_bytes()
            for file in files
        )
    ours = load_file(folder / WEIGHTS)
    assert all(torch.equal(v.half(), ours[k]) for k, v in average.network.state_dict().items())
    assert not torch.equal(ours["proj_out.weight"], load_file(FOLDER / WEIGHTS)["proj_out.weight"])
    with quiet():
        pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a three", num_inference_steps=1).images[0].size == (16, 16)


def test_its_card_says_how_it_is_called(made, tmp_path):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    card, own = catalog.card(str(tmp_path)), catalog.card("flow-digits")
    assert (card.pipeline, card.by_path, card.embedded) == (True, True, False)
    for name in ("variant", "sampling", "arguments", "prompts", "data", "dataset"):
        assert getattr(card, name) == getattr(own, name)
    file = tmp_path / "card.json"
    told = json.loads(file.read_text())
    for wrong, message in (
        ({"variant": "FluxPipeline"}, "is the card of FluxPipeline, and the folder has a Stable"),
        ({"prompts": 3}, "prompts cannot be 3"),
        ({"data": "a/b"}, "data cannot be 'a/b'"),
        ({"guidance": 3}, "unknown field 'guidance'"),
    ):
        file.write_text(json.dumps(told | wrong))
        with pytest.raises(UsageError, match=message):
            catalog.card(str(tmp_path))
    file.unlink()
    assert catalog.card(str(tmp_path)).sampling.guidance == 7.0  # of the call


def test_training_goes_on_from_a_pipeline(tmp_path):
    start = TrainingSettings("flow-digits", start="flow-digits", steps=1, batch_size=2)
    began = network.started(start).network.state_dict()
    kept = load_file(FOLDER / WEIGHTS)
    assert all(torch.equal(began[key], value.float()) for key, value in kept.items())
    drawn = network.started(SHORT).network.state_dict()
    assert not torch.equal(drawn["proj_out.weight"], began["proj_out.weight"])
    shutil.copytree(FOLDER, tmp_path / "other")
    config = tmp_path / "other/transformer/config.json"
    config.write_text(config.read_text().replace('"num_layers": 6', '"num_layers": 5'))
    other = TrainingSettings("flow-digits", start=str(tmp_path / "other"), steps=1, batch_size=2)
    with pytest.raises(UsageError, match="has another architecture than flow-digits"):
        network.started(other)


@pytest.mark.slow
def test_layers_that_are_computed_again_give_the_same_step(tmp_path):
    seen = {}
    for name, checkpointing in (("kept", False), ("again", True)):
        losses = seen[name] = []
        on_log = lambda logged, losses=losses: losses.append((logged.loss, logged.gradient_norm))
        watch = Watch(log_every=1, on_log=on_log, checkpointing=checkpointing)
        train(SHORT, tmp_path / name, watch=watch)
    np.testing.assert_allclose(seen["again"], seen["kept"], rtol=1e-5)
    layers = site_modules(network.started(SHORT))
    assert [(site.kind, site.layer) for site in layers] == [("layer", i) for i in range(6)]
    assert len(seen["kept"]) == 4


@pytest.mark.parametrize(("name", "value"), [("min_snr", 3.0), ("noisy_weight", 2.0)])
def test_weights_of_other_losses_are_refused(name, value):
    option = f"--{name.replace('_', '-')}: flow-digits is trained by flow matching, whose loss"
    with pytest.raises(UsageError, match=option):
        TrainingSettings("flow-digits", **{name: value})
