"""Guidance by hand, and what the denoising loop hands to the network."""

from types import SimpleNamespace

import pytest
import torch
from diffusers.configuration_utils import FrozenDict
from torch import nn

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, drawn, networks
from skipdit_cli.checkpoints.card import Sampling
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.generate import worker
from skipdit_cli.generate.batch import network
from skipdit_cli.generate.hooks import attached
from skipdit_cli.generate.loop import denoise, guided, parts, replay
from skipdit_cli.precision import products
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score.body import loop_of
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL, NULL_FIRST, Layout
from skipdit_cli.spec import parse_cache


class Stub(nn.Module):
    """Gives a fixed output and keeps what it was called with."""

    SITES = {}

    def __init__(self, output, *, channel_dim=1, guided_channels=3):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.output, self.calls = output, []
        self.CHANNEL_DIM, self.GUIDED_CHANNELS = channel_dim, guided_channels
        self.config = FrozenDict(num_classes=10, learn_sigma=True)

    def forward(self, x, timestep, class_labels=None, *, text=None, return_dict=True):
        assert return_dict is False
        self.calls.append((x, timestep, class_labels if text is None else text))
        if self.output is None:
            return (torch.cat([x, torch.zeros_like(x)], self.CHANNEL_DIM),)
        return (self.output,)

    def layout(self):
        return Layout("stub", 1, ())


NO_CACHE = parse_cache("none").resolve(Layout("stub", 1, ()))
DDIM = registry.load("samplers", "ddim")


def combined(model, x, **conditions):
    """Guidance of scale 3 at timestep 7, without cache."""
    with attached(model, NO_CACHE, [7], guided=True) as session:
        session.begin(0)
        return guided(model, x, torch.tensor([7]), session, 3.0, part=parts(conditions))


def test_class_to_image_guidance_leaves_the_fourth_channel_alone():
    """Conditional 1..8, null 11..18, scale 3: null + 3 (conditional - null) = 11 - 30 = -19, -18,
    -17 for three channels; channel 3 and the four of the variance stay those of each half."""
    output = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8], [11.0, 12, 13, 14, 15, 16, 17, 18]])
    model, x = Stub(output.reshape(2, 8, 1, 1)), torch.ones(1, 4, 1, 1)
    labels = torch.tensor([3, 10])
    out = combined(model, x, class_labels=labels)
    assert out.flatten(1).tolist() == [
        [-19, -18, -17, 4, 5, 6, 7, 8],
        [-19, -18, -17, 14, 15, 16, 17, 18],
    ]
    [(seen, t, seen_labels)] = model.calls
    assert torch.equal(seen, torch.cat([x, x]))
    assert t.tolist() == [7, 7]
    assert seen_labels is labels


def test_class_to_video_guidance_acts_on_all_four_channels_of_every_frame():
    """[2, F=2, 8, 1, 1]; frame 1 is frame 0 plus 100."""
    frame = torch.tensor([[1.0, 2, 3, 4, 5, 6, 7, 8], [11.0, 12, 13, 14, 15, 16, 17, 18]])
    output = torch.stack([frame, frame + 100], dim=1).reshape(2, 2, 8, 1, 1)
    model = Stub(output, channel_dim=2, guided_channels=4)
    out = combined(model, torch.ones(1, 2, 4, 1, 1))
    assert out.flatten(2).tolist() == [
        [[-19, -18, -17, -16, 5, 6, 7, 8], [81, 82, 83, 84, 105, 106, 107, 108]],
        [[-19, -18, -17, -16, 15, 16, 17, 18], [81, 82, 83, 84, 115, 116, 117, 118]],
    ]


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_one_channel_is_guided_whole(learn_sigma):
    """Fewer channels than the family guides: the noise is guided, the variance is not."""
    output = torch.tensor([[1.0, 5.0], [11.0, 15.0]])[:, : 1 + learn_sigma]
    model = Stub(output.reshape(2, -1, 1, 1))
    out = combined(model, torch.ones(1, 1, 1, 1))
    expected = torch.tensor([[-19.0, 5.0], [-19.0, 15.0]])[:, : 1 + learn_sigma]
    assert torch.equal(out.flatten(1), expected)


@pytest.mark.parametrize(
    ("halves", "texts"),
    [
        (BOTH, [1, 2, -1, -2]),
        (NULL_FIRST, [-1, -2, 1, 2]),
        (CONDITIONAL, [1, 2]),
        (NULL, [-1, -2]),
    ],
)
def test_every_half_is_computed_under_its_own_conditions(halves, texts):
    """What a method asks for, whatever it then makes of it."""
    model, x = Stub(None, guided_channels=1), torch.tensor([5.0, 6.0]).reshape(2, 1, 1, 1)

    def guide(x, compute, *, channel_dim):
        out = compute(halves)
        return out if len(out) == 4 else out.repeat(2, 1, 1, 1)

    text = torch.tensor([1, 2, -1, -2])
    session = SimpleNamespace(guide=guide)
    guided(model, x, torch.tensor([7, 7]), session, 3.0, part=parts({"text": text}))
    [(seen, t, given)] = model.calls
    assert given.tolist() == texts
    assert seen.flatten().tolist() == [5, 6] * (len(texts) // 2)
    assert t.tolist() == [7] * len(texts)


def sample(model, *, labels=None, guidance=None, **others):
    arguments = {"cache": NO_CACHE, "sampler": DDIM, "steps": "3", "step_noise": None, **others}
    if labels is not None:
        null = torch.full_like(labels, 10)
        arguments |= {"conditions": {"class_labels": labels}, "null": {"class_labels": null}}
    return denoise(model, torch.ones(2, 1, 2, 2), guidance=guidance, **arguments)


def test_guided_denoising_calls_the_network_once_per_step_with_both_halves():
    model = Stub(None)
    sample(model, labels=torch.tensor([3, 4]), guidance=2.0)
    assert [t.tolist() for _, t, _ in model.calls] == [[999] * 4, [500] * 4, [0] * 4]
    assert all(labels.tolist() == [3, 4, 10, 10] for *_, labels in model.calls)  # 10 is null
    assert all(torch.equal(x[:2], x[2:]) for x, *_ in model.calls)


def test_every_condition_gets_its_own_null_half():
    model = Stub(None)
    names = torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    conditions = {"text": names, "class_labels": torch.tensor([3, 4])}
    null = {"class_labels": torch.tensor([10, 10]), "text": -names}
    denoise(
        model,
        torch.ones(2, 1, 2, 2),
        cache=NO_CACHE,
        sampler=DDIM,
        steps="2",
        step_noise=None,
        conditions=conditions,
        null=null,
        guidance=2.0,
    )
    for *_, text in model.calls:
        assert text.tolist() == [[3, 4], [5, 6], [-3, -4], [-5, -6]]
    assert conditions["text"] is names  # what was given is left alone


@pytest.fixture
def sampled():
    """What the sampler is told, and what the network looks like to it."""
    told = {}

    def sample(denoise, x, **arguments):
        told.update(arguments)
        told["out"] = denoise(x, torch.full((len(x),), 7))
        return x

    return SimpleNamespace(name="told", sample=sample, timesteps=lambda steps: [7]), told


VELOCITY = {"betas": ("scaled_linear", 0.00085, 0.02), "prediction": "v_prediction"}


@pytest.mark.parametrize("channel_dim", [1, 2])
@pytest.mark.parametrize("learned", [True, False])
def test_a_network_is_sampled_as_it_was_trained(sampled, learned, channel_dim):
    """A variance that the official pipeline drops never reaches the sampler."""
    sampler, sampled = sampled
    trained = Sampling("ddim", "ddim50", learned_variance=learned, **VELOCITY)
    model = Stub(None, channel_dim=channel_dim)
    x = torch.ones(2, *[3] * (channel_dim - 1), 4, 1, 1)
    how = {"cache": NO_CACHE, "sampler": sampler, "steps": "1", "step_noise": None}
    denoise(model, x, trained=trained, **how)
    out = sampled.pop("out")
    assert sampled == {
        **VELOCITY,
        "steps": "1",
        "step_noise": None,
        "learn_sigma": learned,
        "fixed_large": learned,
        "channel_dim": channel_dim,
    }
    assert torch.equal(out, torch.cat([x, 0 * x], channel_dim) if learned else x)


def test_without_word_of_its_training_a_network_is_sampled_as_dit_is(sampled):
    sampler, sampled = sampled
    sample(Stub(None), sampler=sampler, steps="1")
    assert (sampled["betas"], sampled["prediction"]) == (("linear", 1e-4, 0.02), "epsilon")
    assert (sampled["learn_sigma"], sampled["fixed_large"]) == (True, True)


def test_unguided_denoising_calls_it_with_the_batch():
    model = Stub(None)
    sample(model, labels=torch.tensor([3, 4]))
    assert [(len(x), labels.tolist()) for x, _, labels in model.calls] == [(2, [3, 4])] * 3
    model = Stub(None)
    sample(model)
    assert [labels for *_, labels in model.calls] == [None] * 3


def test_guidance_without_classes_is_refused():
    model = Stub(None)
    with pytest.raises(UsageError) as caught:
        sample(model, guidance=2.0)
    assert str(caught.value) == (
        "guidance: guidance 2.0 needs conditions and the model is unconditional; leave it out"
    )
    assert model.calls == []


def test_the_network_runs_in_its_dtype_and_the_sampler_in_float32(sampled):
    model = Stub(None).bfloat16()
    out = sample(model, labels=torch.tensor([3, 4]), guidance=2.0)
    assert all(x.dtype == torch.bfloat16 for x, *_ in model.calls)
    assert out.dtype == torch.float32
    sampler, told = sampled
    sample(Stub(None).bfloat16(), sampler=sampler, steps="1")
    assert told["out"].dtype == torch.float32


def test_on_step_sees_every_step():
    steps = []
    sample(Stub(None), on_step=lambda session, x: steps.append(session.step))
    assert steps == [0, 1, 2]


@pytest.mark.parametrize(
    ("visits", "problem"),
    [
        ([999, 444, 0], "visits timestep 444 at step 1 and announces 500"),
        ([999, 500, 1], "visits timestep 1 at step 2 and announces 0"),
        ([999, 500], "ends after 2 steps and announces 3"),
        ([999, 500, 0, 0], "takes more steps than the 3 that it announces"),
        ([], "ends after 0 steps and announces 3"),
    ],
)
def test_a_sampler_that_strays_from_its_timesteps(visits, problem):
    """A cache decides on the announced ones, and so does a plan."""

    def stray(denoise, x, **_):
        for t in visits:
            x = denoise(x, torch.full((len(x),), t)).narrow(1, 0, 1)
        return x

    own = SimpleNamespace(name="own", sample=stray, timesteps=lambda steps: [999, 500, 0])
    with pytest.raises(SkipditError) as caught:
        sample(Stub(None), sampler=own)
    assert str(caught.value) == (f"sampler own: {problem}; let its `timesteps` say what it visits")


def test_replay_gives_one_output_per_step():
    model, inputs = Stub(None), [torch.full((2, 1, 1, 1), float(i)) for i in range(3)]
    outputs = replay(model, NO_CACHE, torch.tensor([30, 20, 10]), inputs)
    assert [out[0].flatten().tolist() for out in outputs] == [[0, 0], [1, 0], [2, 0]]
    assert [t.tolist() for _, t, _ in model.calls] == [[30, 30], [20, 20], [10, 10]]
    with pytest.raises(ValueError, match="longer than argument 1"):
        replay(model, NO_CACHE, [30, 20], inputs)


def test_workers_take_the_gpus_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert worker.own_device("cuda") == "cuda"  # this process has its own default
    for number, device in enumerate(("cuda:0", "cuda:1", "cuda:0")):
        monkeypatch.setattr(worker, "_number", number)
        assert worker.own_device("cuda") == device
        assert worker.own_device("cpu") == "cpu"


@pytest.mark.few(3)
@pytest.mark.parametrize(
    ("cache", "brief", "calls"),
    [
        ("none", False, 8),
        ("skip-cache(n=3)", False, 8),
        ("none", True, 2),  # a full step and one more
        ("skip-cache(n=3)", True, 4),  # full, cached, cached, full
        ("skip-cache(n=99)", True, 8),  # never full again
    ],
)
@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("digits-skip", (6, 1, 16, 16)),
        ("moving-digits-skip", (6, 8, 1, 16, 16)),
        ("captioned-digits-skip", (6, 1, 8, 16, 16)),
        ("painted-digits", (6, 1, 16, 16)),
    ],
)
def test_the_loop_that_is_timed(monkeypatch, model, shape, cache, brief, calls):
    """Three samples, guided, so the network sees six; the window leaves no step out."""
    cache = cache.replace(")", ",window=1000-0)")
    seen, network = [], networks.load(drawn.card(catalog.card(model)))
    settings = {"steps": "8", "batch_size": 3, "guidance": 2.0, "weights": "random"}
    wanted = make_run(model, settings=settings)
    monkeypatch.setattr("skipdit_cli.score.body.network", lambda *_, **__: network)
    body = loop_of(wanted)
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    resolved = parse_cache(cache).resolve(wanted.cache.layout)
    body(resolved, brief=brief)
    assert seen == [shape] * calls
    seen.clear()
    body(wanted.cache)  # nothing is left on the model, and the loop can run again
    assert len(seen) == 8


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_the_loop_that_is_timed_computes_in_its_precision(precision):
    """Whoever times it: a sweep, and what measures the speed of a machine."""
    wanted = make_run("digits", settings={"steps": "2", "batch_size": 1, "precision": precision})
    body, seen = loop_of(wanted), []
    model = network(wanted)
    hook = model.register_forward_pre_hook(
        lambda *_: seen.append(
            (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        )
    )
    with products("float32" if precision == "tf32" else "tf32"):
        body(wanted.cache)
    hook.remove()
    assert seen == [(precision == "tf32",) * 2] * 2
