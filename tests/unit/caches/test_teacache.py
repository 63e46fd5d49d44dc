"""TeaCache worked out on paper: the first attention sees 2x, and the two layers make 3(x + 1)."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.teacache import Config, resolve, skipped
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout, Site
from skipdit_cli.spec import parse_cache

SEEN = Site("attn.spatial", 0)


class Attention(nn.Module):
    def forward(self, x):
        return x / 2


class First(nn.Module):
    """Modulates to 2x, attends back to x, adds 1."""

    def __init__(self):
        super().__init__()
        self.attn = Attention()

    def forward(self, x):
        return self.attn(2 * x) + 1


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.Identity()

    def forward(self, x):
        return 3 * x


class Toy(nn.Module):
    SITES = {"layer": "layers.{i}", "attn.spatial": "layers.{i}.attn"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([First(), Last()])

    def forward(self, x):
        return self.layers[1](self.layers[0](x))

    def layout(self):
        return Layout("toy", 2, ("attn.spatial",))


def outputs(inputs, spec):
    model, found = Toy(), []
    with attached(model, parse_cache(spec).resolve(model.layout()), range(len(inputs))) as session:
        for step, x in enumerate(inputs):
            session.begin(step)
            found.append(model(torch.tensor(x)))
        return found, [bool(sites) for sites in session.reused], session.computed


def test_steps_by_hand():
    """Changes 1/4, 1/5, 1/6, 1/7 of the inputs 4 to 8, times 1 (the polynomial is x).

    4 is full: 15, so 11 is added. 5: 0.25 < 0.5, 5 + 11. 6: 0.45 < 0.5, 6 + 11. 7: 0.617, full: 24,
    17 is added. 8: 0.143 again from zero, 8 + 17. 9 is the last step, full: 30.
    """
    inputs = [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    found, reused, computed = outputs(inputs, "teacache(threshold=0.5,coefficients=1/0)")
    assert found == [15, 16, 17, 24, 25, 30]
    assert reused == [False, True, True, False, True, False]
    first, last = Site("layer", 0), Site("layer", 1)
    assert computed == {
        **{(step, first): 1 for step in range(6)},  # its norm and modulation, at least
        **{(step, site): 1 for step in (0, 3, 5) for site in (last, SEEN)},
    }


def test_the_powers_of_the_polynomial_run_down():
    """8/2 is 8 x + 2: 8 / 4 + 2 = 4 at 5, not 2 / 4 + 8 = 8.5."""
    inputs = [4.0, 5.0, 6.0]
    assert outputs(inputs, "teacache(threshold=4.1,coefficients=8/2)")[1][1]
    assert not outputs(inputs, "teacache(threshold=3.9,coefficients=8/2)")[1][1]


def test_the_threshold_itself_is_full():
    """4 to 5 is exactly 0.25."""
    assert not outputs([4.0, 5.0, 6.0], "teacache(threshold=0.25,coefficients=1/0)")[1][1]


def test_a_polynomial_below_zero_takes_away_from_the_sum_as_in_the_authors_code():
    """5 x - 1 gives 0.25, 0, -0.167, -0.286: 0.25 is full, and then nothing up to the last."""
    inputs = [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    found = outputs(inputs, "teacache(threshold=0.2,coefficients=5/-1)")[1]
    assert found == [False, False, True, True, True, False]


def test_a_threshold_of_zero_never_skips():
    assert outputs([4.0, 4.0, 4.0], "teacache(threshold=0,coefficients=1/-9)")[1] == [False] * 3
    assert outputs([4.0, 4.0, 4.0], "teacache(threshold=0,coefficients=1/0)")[1] == [False] * 3


@pytest.mark.parametrize(
    ("coefficients", "start"),
    [("0/0/0/0/0.25", "teacache: the polynomial is a constant"), ("1/0", "teacache: by the auth")],
)
def test_what_kind_of_polynomial_it_is_stands_under_a_table(coefficients, start):
    spec = parse_cache(f"teacache(coefficients={coefficients})")
    assert spec.resolve(Toy().layout()).note.startswith(start)


def test_the_change_is_a_mean_over_the_batch():
    """From 2, 6 to 3, 6: 1 / 8."""
    inputs = [[2.0, 6.0], [3.0, 6.0], [0.0, 0.0]]
    assert outputs(inputs, "teacache(threshold=0.13,coefficients=1/0)")[1][1]
    assert not outputs(inputs, "teacache(threshold=0.12,coefficients=1/0)")[1][1]


def test_the_norm_and_modulation_of_the_first_layer_are_computed():
    layout = Layout("toy", 2, ("attn.spatial", "mlp.spatial"))
    everything = {Site(kind, i) for kind in ("layer", *layout.kinds) for i in (0, 1)}
    assert skipped(Config(), layout) == everything - {Site("layer", 0)}


def test_without_coefficients_the_command_is_named():
    with pytest.raises(UsageError) as caught:
        resolve(Config(), Layout("toy", 2, ("attn.spatial",)))
    assert str(caught.value) == (
        "teacache needs coefficients; `skipdit analyze calibrate --method teacache` finds them"
    )


def test_a_model_without_attention_is_refused():
    with pytest.raises(UsageError, match=r"^teacache needs self-attention and toy has none$"):
        resolve(Config(coefficients=(1.0,)), Layout("toy", 2, ("mlp.spatial",)))


def test_a_setting_without_meaning():
    with pytest.raises(UsageError, match=r"^threshold=-1\.0 is out of range in 'teacache"):
        parse_cache("teacache(threshold=-1)")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_settings_that_are_not_finite(value):
    for setting in ("threshold=", "coefficients=1/"):
        name = setting.partition("=")[0]
        with pytest.raises(UsageError, match=rf"\) {name}: '{value}' is not a number$"):
            parse_cache(f"teacache({setting}{value})")
    with pytest.raises(UsageError, match=f"^threshold={value} is out of range; take a finite "):
        Config(threshold=float(value))
    with pytest.raises(UsageError, match=r"^coefficients must be finite; "):
        Config(coefficients=(1.0, float(value)))


def test_the_coefficients_are_part_of_the_spec():
    cache = parse_cache("teacache(coefficients=-2464.34137/308.044764/1e-05)")
    assert cache.config.coefficients == (-2464.34137, 308.044764, 1e-05)
    assert str(cache) == "teacache(threshold=0.1,coefficients=-2464.34137/308.044764/1e-05)"
    assert parse_cache(str(cache)) == cache
    resolved = cache.resolve(Toy().layout())
    assert str(resolved) == str(cache)
    assert resolved.short == "teacache(threshold=0.1)"
