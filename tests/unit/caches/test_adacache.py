"""AdaCache worked out on paper: temporal attention that gives what it is told, in two layers."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.adacache import BEGIN, Config, hooked, note, resolve, skipped
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout, Site, gated
from skipdit_cli.spec import parse_cache

LATTE = Layout("latte", 28, ("attn.spatial", "attn.temporal", "mlp.temporal"))


class Given(nn.Module):
    now = 0.0

    def forward(self, x, *, gate=None, residual=None):
        return gated(self.now + torch.zeros_like(x), gate, residual)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = Given()

    def forward(self, x, gate):
        return self.attn(x, gate=gate, residual=x)


class Toy(nn.Module):
    SITES = {"layer": "layers.{i}", "attn.temporal": "layers.{i}.attn"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])

    def layout(self):
        return Layout("toy", 2, ("attn.temporal",))


def run(settings, values, *, gates=None):
    """What the first layer adds at every step, and the steps, from 1, that are full.

    Args:
        values: of every step, what its attention gives, [frames, D]; the second layer's gives 1.
    """
    model, found = Toy(), []
    cache = parse_cache(f"adacache({settings})").resolve(model.layout())
    model.layers[1].attn.now = 1.0
    with attached(model, cache, range(len(values))) as session:
        for step, value in enumerate(values):
            session.begin(step)
            model.layers[0].attn.now = torch.tensor(value)
            gate = torch.tensor(gates[step] if gates else 1.0)
            x = torch.zeros_like(model.layers[0].attn.now)
            found.append(model.layers[0](x, gate))
            model.layers[1](x, gate)
        return found, [step for step, sites in enumerate(session.reused, 1) if not sites]


def test_steps_by_hand():
    """The residual is what comes after the gate, at first 2 * 4; a reused one keeps its own gate.

    step  residual  distance                              rate  next
    2     10        2 / 8 = 0.25                          2     4
    4     13        3 / 10 / 2 = 0.15                     2     6
    6     13.13     0.13 / 13 / 2 = 0.005                 3     9
    9     26        12.87 / 13.13 / 3 = 0.327             1     10
    10    26        0                                     3     13, but the last two are full
    """
    values = [4.0, 10, 99, 13, 99, 13.13, 99, 99, 26, 26, 27, 28]
    gates = [2.0, 1, 7, 1, 7, 1, 7, 7, 1, 1, 1, 1]
    settings = "metric_thres=0.1/0.3/1,cache_rates=3/2/1"
    found, full = run(settings, [[[value]] for value in values], gates=gates)
    assert full == [1, 2, 4, 6, 9, 10, 11, 12]
    expected = [8, 10, 10, 13, 13, 13.13, 13.13, 13.13, 26, 26, 27, 28]
    assert [x.item() for x in found] == pytest.approx(expected)


def test_the_distance_is_one_of_the_whole_batch():
    """From 1, 3 to 1, 4 it is 1 / 4, the threshold itself, which is not below it."""
    values = [[[1.0], [3.0]], [[1.0], [4.0]], *[[[0.0], [0.0]]] * 6]
    assert run("metric_thres=0.26/1,cache_rates=3/1", values)[1] == [1, 2, 5, 6, 7, 8]
    assert run("metric_thres=0.25/1,cache_rates=3/1", values)[1] == list(range(1, 9))


def test_motion_by_hand():
    """Frames are 1 and 3, and grow by a tenth: |3 - 1| / (3 + 1) = 0.5, (0.5 / 0.25)^2 / 2 = 2.

    step  distance    motion  its change           product         rate  next
    2     0.1         2       3 * (2 - 1) = 3      0.1 * 5 = 0.5   2     4
    4     0.1 / 2     2       0                    0.05 * 2 = 0.1  3     7
    7     0.1 / 3     1       3 * (1 - 2) / 3 = -1 0.0333 * 2      3     10
    10    0.1 / 3     1       0                    0.0333          4     14
    14    0.1 / 4     1       0                    0.025           4     18
    """
    full = [1, 2, 4, 7, 10, 14, 18, 19, 20]
    settings = (
        "metric_thres=0.04/0.15/0.6/1,cache_rates=4/3/2/1,apply_moreg=true,moreg_steps=1/6,"
        "moreg_hyp=0.25/2/2,mograd_mul=3"
    )
    values = [[[1e3], [-1e3]]] * 20
    for growth, step in enumerate(full):
        values[step - 1] = [[1.1**growth], [3 * 1.1**growth]]
    assert run(settings, values)[1] == full


def test_motion_is_a_mean_over_strides():
    """Of frames 1, 3, 1: 4 / 8 one place apart and 0 / 2 two places apart, on average 0.25.

    Scaled by 0.25 it is 1, so that a distance of 0.1 stays; at one stride it would be 2, and
    have changed.
    """
    values = [[[1.0], [3.0], [1.0]], [[1.1], [3.3], [1.1]], *[[[0.0]] * 3] * 6]
    settings = (
        "metric_thres=0.11/1,cache_rates=3/1,apply_moreg=true,moreg_steps=1/9,moreg_hyp=0.25/1/1,"
        "moreg_strides="
    )
    assert run(f"{settings}1/2", values)[1] == [1, 2, 5, 6, 7, 8]
    assert run(f"{settings}1", values)[1] == list(range(1, 9))


def test_motion_needs_frames():
    settings = "apply_moreg=true,moreg_steps=1/9,moreg_strides=1/2"
    told = "^moreg_strides has 2 and clips have 2 frames; take less than the number of frames$"
    with pytest.raises(UsageError, match=told):
        run(settings, [[[1.0], [3.0]]] * 4)


def test_nothing_to_compare_with_is_no_reason_to_reuse():
    """A network that has just been built has gates of zero."""
    assert run("metric_thres=0.5/1,cache_rates=3/1", [[[0.0]]] * 6)[1] == [1, 2, 3, 4, 5, 6]


def test_defaults_and_sites():
    settings = resolve(Config(), LATTE)
    assert settings.metric_thres == (0.08, 0.16, 0.24, 0.32, 0.4, 1.0)
    assert settings.cache_rates == (6, 5, 4, 3, 2, 1)
    assert settings.cache_loc == (13,)
    assert (settings.moreg_steps, settings.moreg_hyp) == ((4, 26), (0.385, 8, 1))
    assert (settings.apply_moreg, settings.moreg_strides, settings.mograd_mul) == (False, (1,), 10)
    everything = {Site(kind, i) for kind in LATTE.kinds for i in range(28)}
    assert skipped(settings, LATTE) == everything
    assert set(hooked(settings, LATTE)) == {BEGIN, *everything}
    assert note(settings) == "adacache: the codebook is the authors' for 30 steps of Open-Sora."
    assert note(resolve(Config(cache_rates=(3, 2, 1, 1, 1, 1)), LATTE)) == ""
    assert resolve(Config(), Layout("toy", 1, ("attn.temporal",))).cache_loc == (0,)
    assert resolve(Config(cache_loc=(9, 2, 9)), LATTE).cache_loc == (2, 9)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("metric_thres=0.1/1", "metric_thres has 2 distances and cache_rates 6 rates"),
        ("metric_thres=0.2/0.1,cache_rates=2/1", "metric_thres does not rise"),
        ("metric_thres=0.1/0.1,cache_rates=2/1", "metric_thres does not rise"),
        ("metric_thres=0.1/1,cache_rates=2/0", "cache_rates has 0"),
        ("moreg_strides=0", "moreg_strides has 0"),
        ("cache_loc=-1", "cache_loc has -1"),
        ("moreg_steps=1/2/3", "moreg_steps has 3 values"),
        ("moreg_hyp=1/2", "moreg_hyp has 2 values"),
        ("moreg_hyp=0/1/1", "moreg_hyp has a value that is not positive"),
    ],
)
def test_settings_that_are_none(settings, told):
    with pytest.raises(UsageError, match=f"^{told} in 'adacache"):
        parse_cache(f"adacache({settings})")


def test_models_it_has_no_meaning_on():
    told = r"^adacache needs temporal attention and dit has none; take first-block or teacache, or "
    with pytest.raises(UsageError, match=told):
        resolve(Config(), Layout("dit", 28, ("attn.spatial",)))
    with pytest.raises(UsageError, match=r"^cache_loc has layer 28 of 28; take 0 to 27$"):
        resolve(Config(cache_loc=(28,)), LATTE)
