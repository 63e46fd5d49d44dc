"""DBCache worked out on paper: x -> 2x, then + 10, then times 3, then - 1."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.dbcache import Config, hooked, resolve, skipped
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout, Site
from skipdit_cli.spec import parse_cache

LAYERS = [Site("layer", i) for i in range(4)]


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
        functions = (lambda x: 2 * x, lambda x: x + 10, lambda x: 3 * x, lambda x: x - 1)
        self.layers = nn.ModuleList(map(Layer, functions))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, None)
        return x

    def layout(self):
        return Layout("toy", 4, ())


def outputs(inputs, settings):
    """What comes out, which steps were skipped, and what was computed."""
    model, found = Toy(), []
    cache = parse_cache(f"dbcache({settings})").resolve(model.layout())
    with attached(model, cache, range(len(inputs), 0, -1)) as session:
        for step, x in enumerate(inputs):
            session.begin(step)
            found.append(model(torch.tensor(x)))
        return found, [bool(sites) for sites in session.reused], session.computed


def test_steps_by_hand():
    """The first layer adds x itself, so x is compared with that of the last full step.

    4: full, 8, 18, 54, 53; the middle adds 54 - 8 = 46. 4.125 differs by 0.03: 8.25 + 46 - 1. 4.25
    differs by 0.0625 (from 4.125 it would by 0.03): full, 8.5, 18.5, 55.5, 54.5; it adds 47. 4.375
    differs by 0.03: 8.75 + 47 - 1.
    """
    settings = "Fn_compute_blocks=1,Bn_compute_blocks=1,threshold=0.05,max_warmup_steps=1"
    found, reused, computed = outputs([4.0, 4.125, 4.25, 4.375], settings)
    assert found == [53, 53.25, 54.5, 54.75]
    assert reused == [False, True, False, True]
    first, second, third, _ = LAYERS  # nothing has to stand on the last one, which always runs
    assert computed == {
        **{(step, first): 1 for step in range(4)},
        **{(step, site): 1 for step in (0, 2) for site in (second, third)},
    }


def test_what_two_layers_add_is_compared():
    """Together they add x + 10: from 4 to 6 that is 2 / 14, where one layer would differ by half.

    The last two add 35 at 4 (8, 18, 54, 53): at 6 it is 12 + 10 + 35.
    """
    settings = "Fn_compute_blocks=2,max_warmup_steps=0,threshold="
    assert outputs([4.0, 6.0], f"{settings}0.15")[0] == [53, 57]
    assert outputs([4.0, 6.0], f"{settings}0.14")[1] == [False, False]


def test_the_change_is_a_mean_over_the_batch_and_has_to_be_below_the_threshold():
    """From 1, 3 to 1.5, 3: 0.25 / 2 = 0.125, though the first one changed by half."""
    inputs, settings = [[1.0, 3.0], [1.5, 3.0]], "Fn_compute_blocks=1,max_warmup_steps=0,threshold="
    assert outputs(inputs, f"{settings}0.126")[1][1]
    assert not outputs(inputs, f"{settings}0.125")[1][1]


@pytest.mark.parametrize(
    ("settings", "full"),
    [
        ("threshold=0,max_warmup_steps=0", range(7)),
        ("threshold=0.01,max_warmup_steps=0", [0]),
        ("threshold=0.01,max_warmup_steps=3", [0, 1, 2]),
        ("threshold=0.01,max_warmup_steps=9", range(7)),
        ("threshold=0.01,max_warmup_steps=1,max_cached_steps=2", [0, 3, 4, 5, 6]),
        ("threshold=0.01,max_warmup_steps=2,max_continuous_cached_steps=2", [0, 1, 4]),
        ("threshold=0.01,max_warmup_steps=1,max_continuous_cached_steps=0", range(7)),
        (
            "threshold=0.01,max_warmup_steps=1,max_cached_steps=3,max_continuous_cached_steps=2",
            [0, 3, 5, 6],
        ),
    ],
)
def test_steps_that_are_full_though_nothing_changes(settings, full):
    reused = outputs([4.0] * 7, f"Fn_compute_blocks=1,{settings}")[1]
    assert [step for step, some in enumerate(reused) if not some] == list(full)


def test_from_a_threshold_of_one_on_every_change_is_small():
    """4 to 40 is a change of 9."""
    settings = "Fn_compute_blocks=1,max_warmup_steps=0,threshold="
    assert outputs([4.0, 40.0], f"{settings}1")[1][1]
    assert not outputs([4.0, 40.0], f"{settings}0.99")[1][1]


@pytest.mark.parametrize(("layers", "first"), [(2, 1), (3, 1), (6, 2), (14, 4), (24, 8), (40, 8)])
def test_defaults_and_sites(layers, first):
    layout = Layout("toy", layers, ("attn.spatial",))
    settings = resolve(Config(), layout)
    assert vars(settings) == {
        "Fn_compute_blocks": first,
        "Bn_compute_blocks": 0,
        "threshold": 0.08,
        "max_warmup_steps": 8,
        "max_cached_steps": -1,
        "max_continuous_cached_steps": -1,
    }
    assert hooked(settings, layout) == [Site("layer", i) for i in range(layers)]
    assert skipped(settings, layout) == {
        Site(kind, i) for kind in ("layer", "attn.spatial") for i in range(first, layers)
    }


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("threshold=-0.1", r"^threshold=-0\.1 is out of range in 'dbcache"),
        ("Fn_compute_blocks=0", "^Fn_compute_blocks=0 is too small in .*take 1 or more$"),
        ("Bn_compute_blocks=-1", "^Bn_compute_blocks=-1 is too small in .*take 0 or more$"),
        ("max_warmup_steps=-1", "^max_warmup_steps=-1 is too small in .*take 0 or more$"),
        ("max_cached_steps=-2", "^max_cached_steps=-2 is too small in .*take -1 or more$"),
    ],
)
def test_settings_that_are_none(setting, told):
    with pytest.raises(UsageError, match=told):
        parse_cache(f"dbcache({setting})")


def test_a_layer_has_to_be_left_to_skip():
    told = (
        r"^dbcache computes 2 first and 2 last layers of 4; leave one between them that can be "
        "skipped$"
    )
    with pytest.raises(UsageError, match=told):
        resolve(Config(2, 2), Layout("toy", 4, ()))
    with pytest.raises(UsageError, match=r"^dbcache computes 1 first and 0 last layers of 1; "):
        resolve(Config(), Layout("toy", 1, ()))


def test_a_last_layer_is_joined_with_a_first_one():
    layout = Layout("toy", 6, (), ((3, 2), (4, 1), (5, 0)))
    assert resolve(Config(2, 2), layout).Bn_compute_blocks == 2
    told = (
        "^layer 4 is joined with layer 1, which dbcache would not run; take a Bn_compute_blocks of "
        "1 or less$"
    )
    with pytest.raises(UsageError, match=told):
        resolve(Config(1, 2), layout)
