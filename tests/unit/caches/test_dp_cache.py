"""dp-cache worked out on paper: layers that add, of which the middle one is forecast."""

import numpy as np
import pytest
import torch
from torch import nn

from skipdit_cli import registry
from skipdit_cli.caches.dp_cache import Config, probes, stand_in, variant, variants
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout, Seen, Site
from skipdit_cli.spec import parse_cache

LAYOUT = Layout("toy", 3, ())
METHOD = registry.load("caches", "dp-cache")


class Add(nn.Module):
    """x -> x + what it is told."""

    def forward(self, x):
        return x + self.more


class Toy(nn.Module):
    SITES = {"layer": "layers.{i}"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Add() for _ in range(3))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def layout(self):
        return LAYOUT


def outputs(inputs, middles, spec):
    """What the toy gives, where its first layer adds 1, its last 100, and its middle as told."""
    model, found = Toy(), []
    model.layers[0].more, model.layers[2].more = 1, 100
    with attached(model, parse_cache(spec).resolve(LAYOUT), range(len(inputs))) as session:
        for step, (x, middle) in enumerate(zip(inputs, middles, strict=True)):
            model.layers[1].more = middle
            session.begin(step)
            found.append(model(torch.tensor(float(x))).item())
        return found, session.computed


def test_a_forecast_by_hand():
    """h is the input and 1, F is h and what the middle adds.

    Full at 0 (h 1, F 11) and 2 (h 3, F 33): step 1 has no slope and h is 2, 11 + 0.5 * 1. Of 3 and
    4 the slope is 22 / 2 with a = 2, and h is 1 and 3 from that of step 2: 33 + 2 * 11 + 10 * 1,
    and 33 + 2 * 22 + 10 * 3.
    """
    spec = "dp-cache(full=2,steps=0/2,coefficients=7/0.5/2/10)"
    found, computed = outputs([0, 1, 2, 3, 5], [10, 99, 30, 99, 99], spec)
    assert found == [111, 111.5, 133, 165, 207]
    middle, last = Site("layer", 1), Site("layer", 2)
    assert {step for step, site in computed if site == middle} == {0, 2}
    assert [computed[step, last] for step in range(5)] == [1] * 5


def test_all_steps_full_is_no_cache():
    found, _ = outputs([0, 1], [10, 20], "dp-cache(full=2,steps=0/1,coefficients=1/1/1/1)")
    assert found == [111, 122]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"full": 0}, "full=0 computes nothing"),
        ({"branch": 0}, "branch=0 runs no layer"),
        ({"full": 2, "steps": (0, 1, 2)}, "steps do not name 2 full steps"),
        ({"full": 2, "steps": (1, 2)}, "steps do not name 2"),
        ({"full": 3, "steps": (0, 2, 1)}, "rising from 0"),
        ({"full": 2, "coefficients": (1.0,)}, "1 coefficients are not two for each of 2"),
    ],
)
def test_settings_without_meaning(given, words):
    with pytest.raises(UsageError, match=words):
        Config(**given)


def test_a_branch_leaves_a_layer():
    with pytest.raises(UsageError, match="branch=2 leaves no layer to reuse of 3; branch is at mo"):
        variant(Config(branch=2), LAYOUT)


def test_without_a_calibration_the_command_is_named():
    with pytest.raises(UsageError, match=r"`skipdit analyze calibrate .* --full 9` finds them"):
        METHOD.resolve(Config(full=9), LAYOUT)


def test_more_steps_than_a_run_has():
    cache = parse_cache("dp-cache(full=2,steps=0/7,coefficients=0/0/0/0)").resolve(LAYOUT)
    with pytest.raises(UsageError, match="calibrated for more than 7 steps"):
        cache.reused(range(7), guided=False)


def test_what_is_calibrated_by_default():
    """As many full steps as n = 2, 3, 4, 6."""
    assert [each.full for each in variants(LAYOUT, 50)] == [25, 17, 13, 9]
    assert variant(Config(full=9), LAYOUT) == {"full": 9, "branch": 1}


def test_what_a_plan_takes_costs_the_same():
    found = stand_in(Config(full=3), LAYOUT, 7)
    assert found["steps"] == (0, 3, 6)
    for full, steps in ((25, range(0, 50, 2)), (9, range(0, 50, 6))):  # as skip-cache has them
        assert stand_in(Config(full=full), LAYOUT, 50)["steps"] == tuple(steps)
    assert stand_in(Config(full=4), LAYOUT, 6)["steps"] == (0, 1, 3, 4)  # as it has no four
    assert len(found["coefficients"]) == 6
    with pytest.raises(UsageError, match="full=9 is more than 7 steps; take fewer"):
        stand_in(Config(full=9), LAYOUT, 7)


def test_a_probe_reuses_one_step():
    """Every third, and all of the last four."""
    found = [METHOD.Config(**each) for each in probes(LAYOUT, 12, config=Config())]
    reused = [{*range(12)} - {*each.steps} for each in found]
    assert reused == [{1}, {4}, {7}, {8}, {9}, {10}, {11}]
    assert not any(any(each.coefficients) for each in found)


def seen(f, h, *, samples=2):
    entered = {Site("layer", 1): h, Site("layer", 2): f}
    return Seen(entered, {}, f, samples, False)


def test_what_is_observed_of_a_step_and_the_one_before():
    now, before = (seen(torch.full((2, 3), f), torch.full((2, 3), h)) for f, h in ((4, 3), (2, 1)))
    found = METHOD.observe(LAYOUT, now, before, config=Config())
    assert found.shape == (2, 2, 2, 3)
    assert found[0, :, :, 0].tolist() == [[2, 1], [4, 3]]


def test_of_a_large_feature_the_same_values_are_observed_at_every_step():
    wide = torch.arange(20000.0).repeat(2, 1)
    found = METHOD.observe(LAYOUT, seen(wide, wide), seen(wide, -wide), config=Config())
    assert found.shape == (2, 2, 2, 8192)
    assert torch.equal(found[:, 1, 0], found[:, 1, 1])
    assert torch.equal(found[:, 0, 1], -found[:, 1, 1])


def test_candidates_are_even_or_placed_and_of_three_kinds():
    random = np.random.default_rng(0)
    steps = random.normal(size=(2, 8, 2, 5)).cumsum(axis=1)
    observed = np.stack([steps[:, :-1], steps[:, 1:]], axis=2)
    strayed = random.uniform(1, 2, size=(5, 2))
    found = METHOD.candidates(observed, layout=LAYOUT, config=Config(full=3), strayed=strayed)
    assert [*found] == [
        f"{how}, {kind}" for kind in ("freeze", "taylor", "fit") for how in ("even", "placed")
    ]
    assert found["even, taylor"] == {"steps": (0, 3, 6), "coefficients": (1, 0, 1, 0, 1, 0)}
    for each in found.values():
        Config(full=3, **each)
    with pytest.raises(UsageError, match="full=9 is more than 8 steps"):
        METHOD.candidates(observed, layout=LAYOUT, config=Config(full=9), strayed=strayed)
