"""SeaCache worked out on paper: x -> 2x, then + 10, of one pixel, which no filter alters."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.seacache import Config, clips, hooked, resolve, skipped
from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import Context, attached
from skipdit_cli.generate.loop import denoise
from skipdit_cli.registry import load
from skipdit_cli.sites import Layout, Site
from skipdit_cli.spec import parse_cache


class Layer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, c):
        return self.function(x)


class Toy(nn.Module):
    CHANNEL_DIM = 1
    SITES = {"layer": "layers.{i}"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(map(Layer, (lambda x: 2 * x, lambda x: x + 10)))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, None)
        return x

    def layout(self):
        return Layout("toy", 2, ())


def outputs(values, settings):
    """What comes out, and which steps were full; all at one timestep, so that changes are these."""
    model, found = Toy(), []
    cache = parse_cache(f"seacache({settings})").resolve(model.layout())
    with attached(model, cache, [500] * len(values)) as session:
        for step, value in enumerate(values):
            session.begin(step)
            x = torch.tensor(value, dtype=torch.float64).reshape(-1, 1, 1, 1)
            found.append(model(x).flatten().tolist())
        return found, [step for step, sites in enumerate(session.reused) if not sites]


GROWING = [[4.0 * 1.1**step] for step in range(6)]  # by a tenth each step


def test_steps_by_hand():
    """The layers add x + 10: 14 at first, and 15.324 at step 3, which is the third in a row.

    Steps 1 and 2 add 14 as well; step 4 goes on by a third of the difference, 15.7653.
    """
    found, full = outputs(GROWING, "threshold=0.25")
    assert full == [0, 3, 5]
    expected = [18, 18.4, 18.84, 20.648, 5.8564 + 15.324 + 1.324 / 3, 2 * 6.44204 + 10]
    assert [x for (x,) in found] == pytest.approx(expected)
    repeated, _ = outputs(GROWING, "threshold=0.25,residual_order=0")
    assert repeated[4][0] == pytest.approx(5.8564 + 15.324)


@pytest.mark.parametrize(
    ("settings", "full"),
    [
        ("threshold=0", range(6)),
        ("threshold=0.15", [0, 2, 4, 5]),
        ("threshold=0.25,max_consecutive_cached=1", [0, 2, 4, 5]),
        ("threshold=9,max_consecutive_cached=0", [0, 5]),
        ("threshold=9,max_consecutive_cached=0,cache_end_steps=0", [0]),
        (
            "threshold=9,max_consecutive_cached=0,retention_steps=3,cache_end_steps=2",
            [0, 1, 2, 4, 5],
        ),
    ],
)
def test_steps_that_are_full(settings, full):
    assert outputs(GROWING, settings)[1] == list(full)


def test_the_change_is_a_mean_over_the_samples():
    """One sample changes by 0.2, the other not at all."""
    values = [[1.0, 1.0], [1.2, 1.0], [1.2, 1.0]]
    assert outputs(values, "threshold=0.11")[1] == [0, 2]
    assert outputs(values, "threshold=0.09")[1] == [0, 1, 2]


def test_latents_that_are_not_finite_are_computed_without_a_word(caplog):
    assert outputs([[1.0], [float("nan")], [1.0], [1.0]], "threshold=9")[1] == [0, 1, 2, 3]
    assert not caplog.records


def test_what_is_filtered_is_as_in_flow_matching():
    """0.6 x0 + 0.8 noise is 1.4 times 3/7 x0 + 4/7 noise."""
    x0, noise = torch.randn(2, 3, 5, 4, 4)  # each [frames, channels, side, side]
    context = Context("", sigma=4 / 7, x=(0.6 * x0 + 0.8 * noise)[None], channel_dim=2)
    (found,) = clips(context)
    expected = (3 / 7 * x0 + 4 / 7 * noise).transpose(0, 1)
    assert torch.allclose(found, expected, atol=1e-6)
    image = Context("", sigma=0.5, x=torch.randn(2, 4, 8, 8))
    assert [x.shape for x in clips(image)] == [(4, 1, 8, 8)] * 2


def test_sigma_is_that_of_the_schedule_that_the_model_was_trained_with():
    """The first timestep of painted-digits has a variance of its first beta, 0.00085."""
    card, seen = catalog.card("painted-digits"), []
    model = networks.build(card, device="cpu")
    given = {key: value[:1] for key, value in model.inputs(1).items()}
    x = given.pop("hidden_states")
    del given["timestep"]
    denoise(
        model,
        x,
        cache=parse_cache("seacache").resolve(model.layout()),
        sampler=load("samplers", "ddim"),
        steps="2",
        step_noise=torch.zeros_like,
        conditions=given,
        trained=card.sampling,
        on_step=lambda session, _: seen.append(session.context.sigma),
    )
    assert card.sampling.betas[:2] == ("scaled_linear", 0.00085)
    noise = 0.00085**0.5
    assert seen[-1] == pytest.approx(noise / (noise + (1 - 0.00085) ** 0.5))


def test_defaults_and_sites():
    layout = Layout("toy", 3, ("attn.spatial",))
    assert vars(Config()) == {
        "threshold": 0.25,
        "residual_order": 1,
        "retention_steps": 1,
        "cache_end_steps": 1,
        "max_consecutive_cached": 2,
        "power_exp": 3.0,
    }
    assert hooked(Config(), layout) == [Site("layer", i) for i in range(3)]
    assert skipped(Config(), layout) == {
        Site(kind, i) for kind in ("layer", "attn.spatial") for i in range(3)
    }
    with pytest.raises(UsageError, match=r"^seacache needs two layers or more$"):
        resolve(Config(), Layout("toy", 1, ()))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("threshold=-1", r"threshold=-1\.0 is out of range"),
        ("residual_order=2", "residual_order=2 is no order"),
        ("retention_steps=-1", "retention_steps=-1 is negative"),
        ("cache_end_steps=-1", "cache_end_steps=-1 is negative"),
        ("max_consecutive_cached=-1", "max_consecutive_cached=-1 is negative"),
        ("power_exp=0", r"power_exp=0\.0 is out of range"),
    ],
)
def test_settings_that_are_none(setting, told):
    with pytest.raises(UsageError, match=f"^{told} in 'seacache"):
        parse_cache(f"seacache({setting})")
