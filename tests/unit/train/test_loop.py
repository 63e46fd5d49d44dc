"""Training: stages, the moving average, schedules, batches, processes, and resuming bit for bit."""

import json
import math
import os
import signal
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from skipdit_cli.checkpoints import catalog, local, networks
from skipdit_cli.embedded import captions
from skipdit_cli.errors import StoreError, UsageError
from skipdit_cli.generate import text
from skipdit_cli.storage import lock
from skipdit_cli.train import checkpoint, loop, network, official, source
from skipdit_cli.train.loop import Watch, train
from skipdit_cli.train.settings import TrainingSettings


@pytest.fixture
def vanilla(monkeypatch):
    """Vanilla models of random weights in place of the embedded ones."""
    models = {}
    for name in ("digits", "captioned-digits"):
        models[name] = networks.build(catalog.card(name), device="cpu")
        generator = torch.Generator().manual_seed(0)
        for parameter in models[name].parameters():
            nn.init.normal_(parameter, std=0.1, generator=generator)
    monkeypatch.setattr(network, "load", lambda card: models[card.name])
    return models


SKIP = TrainingSettings("digits-skip", start="digits", skip_steps=3, steps=4, batch_size=2)
VANILLA = TrainingSettings("digits", steps=4, batch_size=2)
CLIPS = TrainingSettings("moving-digits", steps=4, batch_size=2, images_per_clip=2)
CAPTIONED = TrainingSettings(
    "captioned-digits-skip", start="captioned-digits", skip_steps=3, steps=4, batch_size=2
)
PAINTED = TrainingSettings("painted-digits", steps=4, batch_size=2)


def drawn(monkeypatch, card, draw):
    """What an embedded model learns, in place of its data: draw(count, generator)."""
    monkeypatch.setitem(source.DRAWS, card.data, (lambda: None, {card.task: draw}))


class Killed(Exception):
    pass


def watched(on_step, *, checkpoint_every=1):
    """A log line and a checkpoint at every step."""
    return Watch(
        log_every=1,
        checkpoint_every=checkpoint_every,
        on_log=lambda logged: on_step(logged.step, logged.loss),
    )


def train_and_watch(settings, folder):
    """The checkpoint after every step but the last."""
    seen = []

    def on_step(step, loss):
        if step > 1:
            seen.append(torch.load(folder / "checkpoint.pt", weights_only=True))
            assert seen[-1]["state"]["step"] == step - 1

    train(settings, folder, watch=watched(on_step))
    return seen


STAGED = pytest.mark.parametrize("settings", [SKIP, CAPTIONED], ids=["images", "clips of text"])


@pytest.mark.few(1)
@STAGED
def test_stage_one_trains_the_skip_branches_alone(vanilla, tmp_path, settings):
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


def test_what_is_frozen_has_no_gradient(vanilla, tmp_path, monkeypatch):
    """And `--stage skip` freezes it in all steps."""
    seen = []
    update = network.Trained.update

    def looked_at(self, step):
        named = self.network.named_parameters()
        seen.append({name for name, parameter in named if parameter.grad is not None})
        return update(self, step)

    monkeypatch.setattr(network.Trained, "update", looked_at)
    train(SKIP, tmp_path / "both")
    skip = {name for name in seen[0] if ".skip." in name}
    assert seen[0] == seen[2] == skip
    assert seen[3] > skip
    assert len(seen) == 7
    alone = TrainingSettings("digits-skip", start="digits", stage="skip", steps=5, batch_size=2)
    train(alone, tmp_path / "alone")
    assert seen[7:] == [skip] * 5


@pytest.mark.few(1)
@STAGED
def test_a_skip_model_starts_from_the_vanilla_weights(vanilla, tmp_path, settings):
    first = train_and_watch(settings, tmp_path)[0]["model"]
    start = vanilla[settings.start].state_dict()
    assert all(torch.equal(first[name], value) for name, value in start.items())


@pytest.mark.parametrize("ema", [0.999, 0.15])
def test_the_moving_average(tmp_path, ema):
    """average <- d average + (1 - d) weights with d = min(ema, (1 + step) / (10 + step)), and 0 at
    the first step."""
    settings = TrainingSettings("digits", steps=5, batch_size=2, ema=ema)
    checkpoints = train_and_watch(settings, tmp_path)
    names = [name for name, _ in networks.build(catalog.card("digits")).named_parameters()]
    decays = [min(ema, (1 + step) / (10 + step)) if step else 0 for step in range(4)]
    assert decays == ([0, 2 / 11, 3 / 12, 4 / 13] if ema == 0.999 else [0, 0.15, 0.15, 0.15])
    for name in ("blocks.0.attn.qkv.weight", "x_embedder.proj.bias", "final_layer.linear.weight"):
        average = checkpoints[0]["model"][name].double()
        for decay, content in zip(decays, checkpoints, strict=True):
            average = decay * average + (1 - decay) * content["model"][name].double()
            found = content["average"][names.index(name)].double()
            torch.testing.assert_close(found, average, atol=1e-7, rtol=0)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(SKIP, id="skip"),
        pytest.param(VANILLA, id="vanilla"),
        pytest.param(CLIPS, id="clips", marks=pytest.mark.slow),
        pytest.param(CAPTIONED, id="clips of text", marks=pytest.mark.slow),
        pytest.param(PAINTED, id="images of text", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_training_ends_in_the_same_bits(vanilla, tmp_path, settings):
    """Killed right after a checkpoint, between two, and in both stages."""
    train(settings, tmp_path / "whole", watch=watched(lambda *_: None, checkpoint_every=2))

    def killed_at(moment):
        def on_step(step, loss):
            if step == moment:
                raise Killed

        return watched(on_step, checkpoint_every=2)

    for moment in (1, 3, 4, settings.total):
        with pytest.raises(Killed):
            train(settings, tmp_path / "killed", watch=killed_at(moment))
        torch.manual_seed(moment)  # whatever state the next process is in
    train(settings, tmp_path / "killed", watch=killed_at(None))
    name = local.WEIGHTS_FILE
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
    whole, killed = (
        json.loads((tmp_path / folder / "training.json").read_text())
        for folder in ("whole", "killed")
    )
    assert killed["loss_curve"] == whole["loss_curve"]
    assert [step for step, _ in whole["loss_curve"]] == list(range(1, settings.total + 1))
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(1, id="stage one", marks=pytest.mark.slow),
        pytest.param(4, id="stage two"),
        pytest.param(7, id="the last step", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_loses_no_step(vanilla, tmp_path, monkeypatch, moment):
    """It comes in the midst of a step, which is done first; with no checkpoint of its own due."""
    train(SKIP, tmp_path / "whole")
    update, done = network.Trained.update, []

    def interrupted(self, step):
        done.append(step)
        if len(done) == moment:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, step)

    monkeypatch.setattr(network.Trained, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(SKIP, tmp_path / "stopped")
    kept = torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)
    assert kept["state"]["step"] == moment == len(done)
    train(SKIP, tmp_path / "stopped")
    assert done == list(range(SKIP.total))
    name = local.WEIGHTS_FILE
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()
    assert not (tmp_path / "stopped" / "checkpoint.pt").exists()


def test_ctrl_c_keeps_no_weights_that_are_no_numbers(tmp_path, monkeypatch):
    """The checkpoint before them stays."""
    wild = TrainingSettings("digits", steps=9, batch_size=2, learning_rate=1e30, clip=0.0)

    def stop(logged):
        if logged.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(wild, tmp_path, watch=Watch(log_every=1, on_log=stop))
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def hook(self, step, update=network.Trained.update):
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, step)

    monkeypatch.setattr(network.Trained, "update", hook)
    with pytest.raises(KeyboardInterrupt):
        train(wild, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_what_is_written_is_the_average(tmp_path):
    """In float32, or in float16 where that is asked for; it is read again as what was trained."""
    given = {"batch_size": 2, "schedule": "constant", "warm_up": 0}
    short = TrainingSettings("digits", steps=4, **given)
    after = train_and_watch(TrainingSettings("digits", steps=5, **given), tmp_path / "watched")[3]
    finished = train(short, tmp_path / "whole")
    train(short, tmp_path / "half", watch=Watch(half=True))
    whole, half = (load_file(tmp_path / each / local.WEIGHTS_FILE) for each in ("whole", "half"))
    names = [name for name, _ in finished.named_parameters()]
    for name, average in zip(names, after["average"], strict=True):
        assert torch.equal(whole[name], average)
        assert torch.equal(half[name], average.half())
    read = networks.load(catalog.card(str(tmp_path / "whole"))).state_dict()
    assert all(torch.equal(read[key], value) for key, value in finished.state_dict().items())


def test_a_disk_that_fills_up_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    """The operating system itself refuses; what torch makes of that says nothing of the disk."""
    resource = pytest.importorskip("resource")
    folder, limits = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # Python keeps what it could write of it

    def fills_up(step, loss):
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))

    try:
        with pytest.raises(StoreError, match=r"checkpoint\.pt: file too large; free some space"):
            train(VANILLA, folder, watch=watched(fills_up))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.pt",
        "settings.json",
        "run.lock",
    }
    (folder / ".checkpoint.pt.12.tmp").touch()  # as a killed one leaves it
    train(VANILLA, folder)
    train(VANILLA, tmp_path / "whole")
    assert (folder / local.WEIGHTS_FILE).read_bytes() == (
        tmp_path / "whole" / local.WEIGHTS_FILE
    ).read_bytes()
    left = {path.name for path in folder.iterdir()}
    assert left == {"config.json", "card.json", "run.lock", "training.json", local.WEIGHTS_FILE}


def test_the_record_says_how_the_model_was_made(tmp_path):
    trained = train(VANILLA, tmp_path, command="skipdit train", watch=Watch(log_every=2))
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["command"] == "skipdit train"
    assert TrainingSettings(**record["settings"]) == VANILLA
    assert record["parameters"] == sum(p.numel() for p in trained.parameters())
    assert [step for step, _ in record["loss_curve"]] == [2, 4]


def test_what_is_logged(tmp_path):
    seen = []
    settings = TrainingSettings("digits", steps=5, batch_size=4, warm_up=0)
    train(settings, tmp_path, watch=Watch(log_every=2, on_log=seen.append))
    assert [each.step for each in seen] == [2, 4, 5]
    assert [each.learning_rate for each in seen] == [network.rate(settings, s) for s in (1, 3, 4)]
    single = []
    train(settings, tmp_path / "single", watch=Watch(log_every=1, on_log=single.append))
    losses, norms = ([getattr(s, name) for s in single] for name in ("loss", "gradient_norm"))
    assert seen[0].loss == pytest.approx((losses[0] + losses[1]) / 2)
    assert seen[0].gradient_norm == pytest.approx((norms[0] + norms[1]) / 2)
    assert seen[2].loss == pytest.approx(losses[4])
    assert all(a.seconds < b.seconds for a, b in pairwise(single))
    assert single[0].memory_bytes > 10**6


def test_a_model_is_trained_further(vanilla, tmp_path):
    train(VANILLA, tmp_path, command="the first")
    further = TrainingSettings("digits", start="digits", steps=4, batch_size=2, learning_rate=1e-30)
    train(further, tmp_path, command="the second")
    made = json.loads((tmp_path / "training.json").read_text())
    assert (made["before"]["command"], made["command"]) == ("the first", "the second")
    saved = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    for key, value in vanilla["digits"].state_dict().items():
        assert torch.equal(saved[key], value)  # it began with these weights


def test_other_classes_are_drawn_afresh(vanilla, tmp_path):
    """And all else is that of the start."""
    settings = TrainingSettings(
        "digits", start="digits", steps=1, batch_size=2, architecture={"num_classes": 3}
    )
    with pytest.warns(UserWarning, match="1 of its tensors have the shape of other classes"):
        own = network.started(settings).state_dict()
    start = vanilla["digits"].state_dict()
    other = [key for key in start if not torch.equal(own[key], start[key])]
    assert [key for key in start if own[key].shape != start[key].shape] == other
    assert other == ["y_embedder.embedding_table.weight"]


@pytest.mark.slow
def test_training_learns(monkeypatch, tmp_path):
    """A constant image: the loss of predicting nothing is 1 plus the bound; it must fall."""
    white = lambda count, _: (torch.ones(count, 1, 16, 16), torch.zeros(count).long())
    drawn(monkeypatch, catalog.card("digits"), white)
    losses = []
    settings = TrainingSettings("digits", steps=60, batch_size=16, learning_rate=0.01)
    on_log = lambda logged: losses.append(logged.loss)
    train(settings, tmp_path, watch=Watch(log_every=10, on_log=on_log))
    assert losses[0] > 0.9
    assert losses[-1] < 0.5 * losses[0]


# What a step computes


@pytest.fixture
def answers(monkeypatch, tmp_path):
    """answers(settings, steps): what the network is asked in the first steps."""

    def ask(settings, steps=1, *, watch=None):
        asked = []
        call = network.Trained.__call__

        def noted(self, x, t, **conditions):
            asked.append({"x": x.clone(), "t": t, **conditions})
            return call(self, x, t, **conditions)

        with monkeypatch.context() as patch:
            patch.setattr(network.Trained, "__call__", noted)
            stop = Watch(log_every=steps, on_log=lambda logged: stopped())
            with suppress(Killed):
                train(settings, tmp_path / str(len(list(tmp_path.iterdir()))), watch=watch or stop)
        return asked

    def stopped():
        raise Killed

    return ask


def test_batches_depend_on_seed_and_step_alone(answers):
    """And the share of dropped labels is `drop`: 300 draws at 0.1, five deviations of 5.2."""

    def batch(seed, step):
        settings = TrainingSettings("digits", batch_size=300, seed=seed, steps=9)
        return answers(settings, step + 1)[step]

    first, again = batch(0, 1), batch(0, 1)
    assert all(
        torch.equal(value, again[key]) for key, value in first.items() if key != "return_dict"
    )
    for other in (batch(0, 0), batch(1, 1)):
        assert not any(torch.equal(first[key], other[key]) for key in ("x", "t", "class_labels"))
    t, labels = first["t"], first["class_labels"]
    assert 4 < (labels == 10).sum() < 56
    assert labels.max() == 10
    assert 0 <= t.min() < 50 < 950 < t.max() <= 999


@pytest.mark.parametrize("model", ["digits", "moving-digits"])
def test_parts_are_the_rows_of_the_whole(answers, model):
    """So that processes and parts see what one would."""
    given = {"model": model, "batch_size": 4, "steps": 3}
    given |= {"images_per_clip": 3} if model == "moving-digits" else {}
    whole = answers(TrainingSettings(**given))
    parts = answers(TrainingSettings(**given, accumulate=2))
    kinds = len(whole)
    assert (kinds, len(parts)) == (2 if "images_per_clip" in given else 1, 2 * kinds)
    for kind in range(kinds):
        for key in ("x", "t", "class_labels"):
            joined = torch.cat([parts[kind][key], parts[kind + kinds][key]])
            assert torch.equal(joined, whole[kind][key])


def test_parts_give_the_same_step(tmp_path):
    """And so does computing layers again in the backward pass."""
    settings = {"model": "digits-skip", "batch_size": 4, "steps": 4, "learning_rate": 0.01}
    seen = {}
    for name, more, watch in (
        ("whole", {}, {}),
        ("parts", {"accumulate": 4}, {}),
        ("again", {}, {"checkpointing": True}),
    ):
        losses = seen[name] = []
        on_log = lambda logged, losses=losses: losses.append((logged.loss, logged.gradient_norm))
        watch = Watch(log_every=1, on_log=on_log, **watch)
        train(TrainingSettings(**settings, **more), tmp_path / name, watch=watch)
    np.testing.assert_allclose(seen["parts"], seen["whole"], rtol=2e-5)
    np.testing.assert_allclose(seen["again"], seen["whole"], rtol=1e-6)
    assert len(seen["whole"]) == 4


def test_images_beside_clips(answers, monkeypatch, tmp_path):
    """Frames of other clips at the timestep of theirs, without temporal blocks; the loss is the
    mean over all frames."""
    settings = TrainingSettings("moving-digits", batch_size=2, steps=2, images_per_clip=3)
    clips, images = answers(settings)
    assert clips["x"].shape == (2, 8, 1, 16, 16)
    assert images["x"].shape == (6, 1, 1, 16, 16)
    assert torch.equal(images["t"], clips["t"].repeat_interleave(3))
    assert images["enable_temporal_attentions"] is False
    assert "enable_temporal_attentions" not in clips
    seen = []
    monkeypatch.setattr(
        loop, "hybrid_loss", lambda *a, noise, **_: noise.flatten(1)[:, 0] * 0 + len(noise)
    )
    monkeypatch.setattr(loop.Processes, "backward", lambda self, loss: seen.append(float(loss)))
    monkeypatch.setattr(network.Trained, "update", lambda self, step: torch.zeros(()))
    train(settings, tmp_path)
    assert seen[0] == pytest.approx((8 * 2 + 3 * 6) / 11)  # clips are told as 2, images as 6


def test_gradients_are_cut_from_a_step_on(tmp_path, monkeypatch):
    cuts = []
    clip = loop.Processes.clip
    monkeypatch.setattr(
        loop.Processes, "clip", lambda self, p, norm: cuts.append(norm) or clip(self, p, norm)
    )
    train(TrainingSettings("digits", steps=4, batch_size=2, clip=0.25, clip_from=2), tmp_path / "a")
    train(TrainingSettings("digits", steps=1, batch_size=2, clip=0), tmp_path / "b")
    assert cuts == [math.inf, math.inf, 0.25, 0.25, math.inf]


@pytest.mark.parametrize("name", ["captioned-digits", "painted-digits"])
def test_captions_become_texts_and_dropped_ones_the_empty_text(name, tmp_path):
    """Row by row what sampling gives the network: of the caption, or of the null half."""
    card, asked = catalog.card(name), captions.LISTS[catalog.card(name).task]
    labels, dropped = torch.tensor([5, 0, 29, 5]), torch.tensor([False, False, True, True])
    found = source.Drawn(card).conditions(labels, dropped)
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
def test_each_model_is_trained_on_what_it_is_to_predict(monkeypatch, tmp_path, name, predicts):
    """Black is x0 = 0 here, so x = s noise and both answers can be read off x."""
    card = catalog.card(name)
    shape = networks.build(card).inputs(3)["hidden_states"].shape
    zero = lambda count, _: (torch.zeros(shape), torch.zeros(count).long())
    drawn(monkeypatch, card, zero)
    diffusion = loop.Diffusion(torch.device("cpu"), card.sampling.betas)

    def answer(told):
        def call(self, x, t, return_dict, **conditions):
            shape = -1, *[1] * (x.dim() - 1)
            signal, spread = diffusion.signal[t].view(shape), diffusion.noise[t].view(shape)
            guess = x / spread * (signal if told == "velocity" else 1)
            return (torch.cat([guess, torch.full_like(x, -1.0)], dim=1).requires_grad_(),)

        return call

    losses = []
    monkeypatch.setattr(network.Trained, "update", lambda self, step: torch.zeros(()))
    watch = Watch(log_every=1, on_log=lambda logged: losses.append(logged.loss))
    for i, told in enumerate((predicts, {"noise": "velocity", "velocity": "noise"}[predicts])):
        monkeypatch.setattr(network.Trained, "__call__", answer(told))
        train(TrainingSettings(name, batch_size=3, steps=1), tmp_path / str(i), watch=watch)
    assert losses[0] < 1e-3
    assert losses[1] > 1e-2


def test_the_learning_rate_warms_up_and_falls_in_each_stage():
    settings = TrainingSettings(
        "digits-skip", start="digits", skip_steps=1000, steps=4000, learning_rate=1.0
    )
    rate = [network.rate(settings, step) for step in range(5000)]
    assert rate[0] == pytest.approx(1 / 200)
    assert rate[199] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.199)))
    assert rate[500] == pytest.approx(0.5)
    assert rate[1000] == pytest.approx(1 / 200)
    assert rate[3000] == pytest.approx(0.5)
    assert 0 < rate[4999] < 1e-6


@pytest.mark.parametrize(
    ("schedule", "expected"), [("constant", [2.0, 2.0, 2.0]), ("linear", [2.0, 1.0, 0.5])]
)
def test_other_schedules(schedule, expected):
    settings = TrainingSettings(
        "digits", steps=100, warm_up=0, learning_rate=2.0, schedule=schedule
    )
    assert [network.rate(settings, step) for step in (0, 50, 75)] == pytest.approx(expected)


# Looking at the model while it is trained


def test_a_judge_sees_the_average_and_changes_nothing(tmp_path):
    seen = {}

    def judge(step, export):
        export(tmp_path / f"at-{step}")
        seen[step] = load_file(tmp_path / f"at-{step}" / local.WEIGHTS_FILE)

    settings = TrainingSettings("digits", steps=5, batch_size=2)
    train(settings, tmp_path / "judged", watch=Watch(judge_every=2, judge=judge))
    train(settings, tmp_path / "alone")
    names = [name for name, _ in networks.build(catalog.card("digits")).named_parameters()]
    assert list(seen) == [2, 4, 5]
    final = load_file(tmp_path / "alone" / local.WEIGHTS_FILE)
    assert all(torch.equal(seen[5][key], final[key]) for key in final)
    content = train_and_watch(settings, tmp_path / "watched")[1]  # after two steps
    for name, value in zip(names, content["average"], strict=True):
        assert torch.equal(seen[2][name], value)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "digit"}, "--model: unknown model 'digit'; did you mean 'digits'?"),
        ({"model": "digits", "skip_steps": 5}, "--skip-steps: digits has no skip branches that"),
        ({"model": "digits", "stage": "skip"}, "--stage skip: digits has no skip branches that"),
        (
            {"model": "painted-digits", "start": "painted-digits", "skip_steps": 5},
            "--skip-steps: painted-digits has no skip branches that were added to it; models with "
            "native skip branches are trained at once",
        ),
        (
            {"model": "digits-skip", "skip_steps": 5},
            "--start: skip branches alone are trained beside weights that are trained already; "
            "name the vanilla model, or leave out the first stage to train digits-skip from scra",
        ),
        (
            {"model": "digits-skip", "start": "digits", "stage": "skip", "skip_steps": 5},
            "--stage skip: all steps train the skip branches alone; give their number as --steps",
        ),
        (
            {"model": "painted-digits", "noisy_weight": 50.0},
            "--noisy-weight: painted-digits predicts velocity, whose loss weighs noisy samples",
        ),
        ({"model": "digits", "images_per_clip": 2}, "--images-per-clip: digits makes images"),
        ({"model": "digits", "noisy_weight": 0.5}, "--noisy-weight: 0.5 is too low; take 1 or"),
        ({"model": "digits", "steps": 0}, "--steps: 0 is too low; take 1 or more"),
        ({"model": "digits", "batch_size": 0}, "--batch-size: 0 is too low"),
        ({"model": "digits", "learning_rate": 0.0}, "--learning-rate: 0.0 is not a learning rate"),
        ({"model": "digits", "ema": 1.0}, "--ema: 1 is not a share; take 0 to below 1"),
        ({"model": "digits", "schedule": "cosin"}, "--schedule: unknown schedule 'cosin'"),
        ({"model": "digits", "precision": "half"}, "--precision: unknown precision 'half'"),
        ({"model": "digits", "stage": "skips"}, "--stage: unknown stage 'skips'"),
    ],
)
def test_settings_without_meaning(arguments, message):
    with pytest.raises(UsageError) as caught:
        TrainingSettings(**arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("model", "start", "message"),
    [
        ("digits-skip", "moving-digits", "--start: moving-digits has another architecture than"),
        ("captioned-digits-skip", "moving-digits", "--start: moving-digits has another archi"),
        ("digits-skip", "dit-xl-2", "--start: dit-xl-2 has another architecture than digits-skip"),
        ("digits", "digits-skip", "--start digits-skip: has skip branches, and digits has none"),
        ("digits-skip", "digts", "--start: unknown model 'digts'; did you mean 'digits'?"),
    ],
)
def test_a_start_that_does_not_fit(tmp_path, model, start, message):
    with pytest.raises(UsageError) as caught:
        train(TrainingSettings(model, start=start, steps=1, batch_size=1), tmp_path)
    assert str(caught.value).startswith(message)


def test_a_folder_with_other_settings_is_not_continued(tmp_path):
    def interrupt(step, loss):
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        train(VANILLA, tmp_path, watch=watched(interrupt))
    before = (tmp_path / "checkpoint.pt").read_bytes()
    other = TrainingSettings("digits", steps=5, batch_size=2)
    with pytest.raises(UsageError) as caught:
        train(other, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'checkpoint.pt'}: holds a run with other settings (steps=4); "
        "give those again, or choose another --out; or delete it"
    )
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_half_precision(tmp_path):
    """bfloat16 gives other losses, near those of float32; float16, which a CPU would not take, is
    refused, not recorded."""
    losses = {}
    for precision in ("float32", "bfloat16"):
        settings = TrainingSettings("digits", batch_size=4, steps=5, warm_up=0, precision=precision)
        on_log = lambda logged, precision=precision: losses.update({precision: logged.loss})
        train(settings, tmp_path / precision, watch=Watch(log_every=1, on_log=on_log))
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=1e-2)
    with pytest.raises(UsageError, match="--precision: float16 is trained on a GPU alone; take bf"):
        train(TrainingSettings("digits", precision="float16"), tmp_path / "float16")
    assert not (tmp_path / "float16").exists()


def test_two_do_not_train_into_one_folder(tmp_path):
    with lock.held(tmp_path), pytest.raises(lock.HeldError, match=f"run {tmp_path.name}; wait"):
        train(VANILLA, tmp_path)
    train(VANILLA, tmp_path)


def test_a_batch_that_cannot_be_shared(tmp_path):
    settings = TrainingSettings("digits", batch_size=6, accumulate=4)
    with pytest.raises(UsageError, match=r"--batch-size: 6 .* one process in 4 parts; take a mult"):
        train(settings, tmp_path)


class Hostile:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_no_code_of_a_checkpoint_is_run(tmp_path):
    torch.save({"settings": Hostile(tmp_path / "ran")}, tmp_path / "checkpoint.pt")
    with pytest.raises(UsageError, match="is no checkpoint of a training"):
        train(VANILLA, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_settings_of_a_checkpoint_are_those_of_the_record(tmp_path):
    checkpoint.write(tmp_path / "c.pt", {"settings": asdict(SKIP), "state": {}})
    assert checkpoint.read(tmp_path / "c.pt", asdict(SKIP)) is not None
    assert checkpoint.read(tmp_path / "none.pt", asdict(SKIP)) is None


# The official settings


@pytest.mark.parametrize("name", [*official.SETTINGS, "dit-xl-2-skip", "latte-skip"])
def test_the_official_settings_are_settings(name):
    settings = TrainingSettings(model=name, **official.settings(catalog.card(name)))
    assert settings.learning_rate == 1e-4
    assert settings.min_snr == 0
    assert settings.card.name == name


def test_models_that_nobody_trained_there():
    with pytest.raises(UsageError, match="--config official: the official code has no training of"):
        official.settings(catalog.card("hunyuan-dit"))


# Full size


@pytest.mark.few(2)
@pytest.mark.parametrize("name", ["dit-xl-2-skip", "ucf101-skip", "latte-skip", "hunyuan-dit"])
def test_a_step_of_each_full_size_family(name):
    """On the meta device, which knows shapes alone: loss, gradients of all weights, a step."""
    card, meta = catalog.card(name), torch.device("meta")
    model = networks.build(card).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, foreach=False)
    given = model.inputs(2, device="meta")
    x0, t = given.pop("hidden_states"), given.pop("timestep")
    diffusion = loop.Diffusion(meta, card.sampling.betas)
    velocity = card.sampling.prediction == "v_prediction"
    loss = (loop.velocity_loss if velocity else loop.hybrid_loss)(
        lambda x, t: model(x, t, **given, return_dict=False)[0],
        x0,
        t,
        noise=torch.empty_like(x0),
        diffusion=diffusion,
        channel_dim=model.CHANNEL_DIM,
    )
    assert loss.shape == (2,)
    loss.mean().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    optimizer.step()
    assert len(optimizer.state) == sum(1 for _ in model.parameters())
