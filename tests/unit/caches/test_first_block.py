"""First-Block Cache worked out on paper: x -> 2x, then + 10, then times 3."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.first_block import Config, hooked, resolve, skipped
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout, Site
from skipdit_cli.spec import parse_cache

STEPS = [900, 700, 500, 300]


class Layer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, c):
        return self.function(x)


class Toy(nn.Module):
    SITES = {"layer": "layers.{i}"}

    def __init__(self):
        super().__init__()
        functions = (lambda x: 2 * x, lambda x: x + 10, lambda x: 3 * x)
        self.layers = nn.ModuleList(map(Layer, functions))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, None)
        return x

    def layout(self):
        return Layout("toy", 3, ())


def outputs(inputs, spec):
    model, found = Toy(), []
    with attached(model, parse_cache(spec).resolve(model.layout()), STEPS) as session:
        for step, x in enumerate(inputs):
            session.begin(step)
            found.append(model(torch.tensor(x)))
        return found, [bool(sites) for sites in session.reused], session.computed


def test_steps_by_hand():
    """The first layer adds x itself, so x is compared with that of the last full step.

    4: full, 8, 18, 54; the others add 54 - 8 = 46. 4.125 differs by 0.03: 8.25 + 46. 4.25 differs
    by 0.0625 (from 4.125 it would by 0.03): full, 8.5, 18.5, 55.5; they add 47. 4.375 differs by
    0.03: 8.75 + 47.
    """
    found, reused, computed = outputs([4.0, 4.125, 4.25, 4.375], "first-block(threshold=0.05)")
    assert found == [54, 54.25, 55.5, 55.75]
    assert reused == [False, True, False, True]
    first, second, third = (Site("layer", i) for i in range(3))
    assert computed == {
        **{(step, first): 1 for step in range(4)},
        **{(step, site): 1 for step in (0, 2) for site in (second, third)},
    }


def test_the_change_is_a_mean_over_the_batch():
    """From 1, 3 to 1.5, 3: 0.25 / 2 = 0.125, though the first one changed by half."""
    inputs = [[1.0, 3.0], [1.5, 3.0]]
    assert outputs(inputs, "first-block(threshold=0.13)")[1][1]
    assert not outputs(inputs, "first-block(threshold=0.12)")[1][1]
    assert outputs(inputs, "first-block(threshold=0.13)")[0][1].tolist() == [3 + 34, 6 + 42]


def test_threshold_zero_computes_what_has_not_changed_at_all():
    assert outputs([4.0, 4.0], "first-block(threshold=0)")[1] == [False] * 4


def test_defaults_and_sites():
    layout = Layout("toy", 3, ("attn.spatial",))
    assert Config().threshold == 0.05
    assert hooked(Config(), layout) == [Site("layer", i) for i in range(3)]
    assert skipped(Config(), layout) == {
        Site(kind, i) for kind in ("layer", "attn.spatial") for i in (1, 2)
    }


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("-0.1", r"^threshold=-0\.1 is out of range in 'first-block"),
        ("nan", r"\) threshold: 'nan' is not a number$"),
        ("inf", r"\) threshold: 'inf' is not a number$"),
    ],
)
def test_a_threshold_that_is_none(value, told):
    with pytest.raises(UsageError, match=told):
        parse_cache(f"first-block(threshold={value})")
    with pytest.raises(UsageError, match=rf"^threshold={value} is out of range; take a finite "):
        Config(threshold=float(value))


def test_a_single_layer_has_nothing_to_skip():
    with pytest.raises(UsageError, match=r"^first-block needs a second layer to skip$"):
        resolve(Config(), Layout("toy", 1, ()))
