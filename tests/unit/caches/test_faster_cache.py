"""FasterCache's attention worked out on paper: an attention that squares."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.faster_cache import Config, hooked, resolve, reused
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.generate.loop import replay
from skipdit_cli.plan import plan
from skipdit_cli.recipe import runs
from skipdit_cli.sites import BOTH, CONDITIONAL, Layout, Site
from skipdit_cli.spec import parse_cache

LAYOUT = Layout("toy", 1, ("attn.temporal", "attn.cross", "mlp.spatial"))
SITE = Site("attn.temporal", 0)


class Square(nn.Module):
    def forward(self, x):
        return x * x


class Toy(nn.Module):
    SITES = {"attn.temporal": "attn"}
    CHANNEL_DIM = 1

    def __init__(self):
        super().__init__()
        self.attn = Square()

    def forward(self, x):
        return x + self.attn(x)

    def layout(self):
        return LAYOUT


def outputs(timesteps, spec):
    """Of the inputs 1, 2, 3, ..."""
    model, found = Toy(), []
    with attached(model, parse_cache(spec).resolve(model.layout()), timesteps) as session:
        for step in range(len(timesteps)):
            session.begin(step)
            found.append(model(torch.tensor([step + 1.0])).item() - step - 1)
        return found, sorted(step for step, _ in session.computed)


def test_steps_by_hand():
    """900 and 700 are full: 1, 4. 600: full, step 2 is even: 9. 500: 9 + (9 - 4) / 2 = 11.5.

    400 is full: 25. 300: 25 + (25 - 11.5) / 2 = 31.75, from what was extrapolated.
    """
    found, computed = outputs([900, 700, 600, 500, 400, 300], "faster-cache")
    assert found == [1, 4, 9, 11.5, 25, 31.75]
    assert computed == [0, 1, 2, 4]


def test_the_weight_and_the_interval():
    """n = 3: 1; then 1 + 0, there is one output only; then the same; 16."""
    found, computed = outputs([600, 500, 400, 300], "faster-cache(n=3,weight=1)")
    assert found == [1, 1, 1, 16]
    assert computed == [0, 3]


def test_the_first_timestep_that_is_reused_is_below_the_bound():
    assert outputs([700, 681, 600, 500], "faster-cache")[1] == [0, 1, 2]
    assert outputs([700, 680, 600, 500], "faster-cache")[1] == [0, 2]
    for first, announced in ((681, set()), (680, {SITE})):
        assert reused(Config(), LAYOUT, [700, first], guided=False) == [set(), announced]


def test_what_is_announced():
    planned = reused(Config(), LAYOUT, [900, 700, 600, 500], guided=False)
    assert planned == [set(), set(), set(), {SITE}]
    assert hooked(Config(), LAYOUT) == [SITE]  # neither cross-attention nor the MLP
    assert Config() == Config(n=2, below=681, weight=0.5)


def test_a_model_without_self_attention():
    with pytest.raises(UsageError, match="needs self-attention and toy has none"):
        resolve(Config(), Layout("toy", 1, ("attn.cross",)))


@pytest.mark.parametrize("setting", ["n=0", "below=0", "below=1001"])
def test_a_setting_without_meaning(setting):
    with pytest.raises(UsageError, match=f"^{setting} is "):
        parse_cache(f"faster-cache({setting})")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_weight_that_is_not_finite(value):
    with pytest.raises(UsageError, match=rf"\) weight: '{value}' is not a number$"):
        parse_cache(f"faster-cache(weight={value})")
    with pytest.raises(UsageError, match=f"^weight={value} is not finite; take a finite number$"):
        Config(weight=float(value))


class Guided(nn.Module):
    """A constant field: the input times the condition. Remembers the conditions of its calls."""

    SITES = {"attn.spatial": "attn"}
    CHANNEL_DIM, GUIDED_CHANNELS = 1, 1

    def __init__(self):
        super().__init__()
        self.attn, self.seen = nn.Identity(), []

    def forward(self, hidden_states, timestep, condition, return_dict):
        self.seen.append(condition.flatten().tolist())
        return (self.attn(hidden_states * condition),)

    def layout(self):
        return Layout("toy", 1, ("attn.spatial",))


def guided(spec, inputs, timesteps):
    """The first pixel of every output, all pixels being alike, and the conditions seen."""
    model = Guided()
    fields = [torch.full((2, 1, 4, 4), float(x)) for x in inputs]
    condition = torch.tensor([3.0, 1.0]).reshape(2, 1, 1, 1)
    cache, given = parse_cache(spec).resolve(model.layout()), {"condition": condition}
    found = replay(model, cache, timesteps, fields, guidance=2.0, conditions=given)
    for out in found:
        torch.testing.assert_close(out, out[:1, :, :1, :1].expand_as(out))
    return [round(out[0, 0, 0, 0].item(), 4) for out in found], model.seen


def test_the_null_half_is_predicted_by_hand():
    """Conditions 3 and 1, scale 2. A constant field has low frequencies alone.

    step 0, x = 1: 3 and 1, guided 1 + 2 * (3 - 1) = 5; they differ by -2.
    step 1, x = 2: 6 alone, null 6 - 1.1 * 2 = 3.8, guided 3.8 + 2 * 2.2 = 8.2.
    step 2, x = 2: null 6 - 1.21 * 2 = 3.58, guided 3.58 + 2 * 2.42 = 8.42.
    step 3, x = 2: 6 and 2, guided 10; step 4, x = 1, t = 50, outside of low's range: 3 - 4 = -1,
    guided -1 + 2 * 4 = 7.
    """
    spec = "faster-cache(n=1,null_every=3)"
    found, seen = guided(spec, [1, 2, 2, 2, 1], [640, 600, 500, 400, 50])
    assert found == [5, 8.2, 8.42, 10, 7]
    assert seen == [[1, 3], [3], [3], [1, 3], [3]]  # diffusers has the null half first


def test_attention_is_extrapolated_where_the_null_half_is_predicted():
    """step 1 reuses the conditional half of step 0, 3, and predicts null 3 - 2.2 = 0.8: 5.2.

    step 2 is computed, 3 * 5 = 15, null 15 - 2.42 = 12.58: 17.42. Step 3 computes both halves,
    though its number is odd: 15 and 5, 25.
    """
    found, _ = guided("faster-cache(null_every=3)", [1, 5, 5, 5], [640, 600, 500, 400])
    assert found == [5, 5.2, 17.42, 25]
    cache, times = parse_cache("faster-cache(null_every=3)"), [640, 600, 500, 400]
    cache = cache.resolve(Guided().layout())
    assert [len(s) for s in cache.reused(times, guided=True)] == [0, 1, 0, 0]
    assert [len(s) for s in cache.reused(times, guided=False)] == [0, 1, 0, 1]
    assert cache.halves(times, guided=True) == [BOTH, CONDITIONAL, CONDITIONAL, BOTH]


def test_a_predicted_half_costs_nothing():
    def macs(cache):
        settings = {"steps": "4", "guidance": 2.0, "num_samples": 1, "batch_size": 1}
        return plan.plan(runs.make_run("digits", cache, settings)).macs_paper

    assert macs("faster-cache(n=1,null_every=2,null_below=1000)") * 8 == macs("none") * 6
    assert macs("faster-cache(n=1,null_every=1)") == macs("none")


@pytest.mark.parametrize("spec", ["faster-cache(null_every=0)", "faster-cache(null_below=0)"])
def test_settings_of_the_null_half(spec):
    with pytest.raises(UsageError):
        parse_cache(spec)
