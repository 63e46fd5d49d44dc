"""Delta-DiT and Faster Diffusion worked out on paper: four layers with whole numbers."""

import pytest
import torch
from torch import nn

from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout
from skipdit_cli.spec import parse_cache

KINDS = ("attn.spatial", "mlp.spatial")
PLAIN = Layout("toy", 28, KINDS)
SKIPS = Layout("toy", 28, KINDS, tuple((i, 27 - i) for i in range(14, 28)))
NATIVE = Layout("hunyuan_dit", 40, KINDS, tuple((i, 39 - i) for i in range(21, 40)))


class Layer(nn.Module):
    """x -> a x + b, after x <- x + 10 skip where there is a skip."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x, skip=None):
        return self.a * (x if skip is None else x + 10 * skip) + self.b


class Toy(nn.Module):
    """2 x + 1, 3 x, x + 5, 2 x - 1; with skips, layers 0 and 1 feed 3 and 2."""

    SITES = {"layer": "layers.{i}"}

    def __init__(self, *, skips=False):
        super().__init__()
        self.skips = skips
        self.layers = nn.ModuleList([Layer(2, 1), Layer(3, 0), Layer(1, 5), Layer(2, -1)])

    def forward(self, x):
        first = self.layers[0](x)
        second = self.layers[1](first)
        if not self.skips:
            return self.layers[3](self.layers[2](second))
        return self.layers[3](self.layers[2](second, second), first)

    def layout(self):
        return Layout("toy", 4, (), ((2, 1), (3, 0)) if self.skips else ())


def outputs(spec, inputs, *, timesteps=(900, 700, 500, 300), skips=False):
    model, found = Toy(skips=skips), []
    with attached(model, parse_cache(spec).resolve(model.layout()), timesteps) as session:
        for step, x in enumerate(inputs):
            session.begin(step)
            found.append(model(torch.tensor(float(x))).item())
    return found


def layers(spec, layout, step, timesteps=range(980, -1, -20)):
    """First and last layer that a step does not run."""
    reused = parse_cache(spec).resolve(layout).reused(timesteps, guided=False)[step]
    found = sorted(site.layer for site in reused if site.kind == "layer")
    assert found == list(range(found[0], found[-1] + 1))
    return found[0], found[-1]


def test_the_toy_networks_by_hand():
    """x = 1: 3, 9, 14, 27; with skips 3, 9, 9 + 90 + 5 = 104, 2 (104 + 30) - 1 = 267."""
    assert Toy()(torch.tensor(1.0)) == 27
    assert Toy(skips=True)(torch.tensor(1.0)) == 267


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        # x = 1: the front changes 1 to 9, by 8. x = 5: 5 + 8 = 13, 18, 35.
        ("delta-dit(part=front,layers=2)", [27, 35, 27]),
        # The rear changes 9 to 27, by 18. x = 5: 11, 33, 33 + 18 = 51.
        ("delta-dit(part=rear,layers=2)", [27, 51, 27]),
        # The middle changes 3 to 14, by 11. x = 5: 11, 22, 43.
        ("delta-dit(part=middle,layers=2)", [27, 43, 27]),
        # One layer of four, the middle is layer 2: it adds 5 whatever comes.
        ("delta-dit(part=middle,layers=1)", [27, 75, 27]),
    ],
)
def test_delta_dit_by_hand(spec, expected):
    assert outputs(spec, [1, 5, 1]) == expected


def test_staged_delta_dit_by_hand():
    """Ranges of three layers overlap. x = 1: the rear changes 3 to 27, the front 1 to 14.

    step 1, t > boundary:  x = 2: 5; 5 + 24 = 29.
    step 2, t <= boundary: x = 4: 4 + 13 = 17; 2 * 17 - 1 = 33.
    step 3 is full again.
    """
    spec = "delta-dit(n=3,part=staged,layers=3,boundary=600)"
    assert outputs(spec, [1, 2, 4, 1]) == [27, 29, 33, 27]


def test_staged_delta_dit_of_disjoint_ranges_by_hand():
    """The boundary lies between two cached steps. x = 1: the front adds 8, the rear 18.

    step 1, t > boundary:  x = 2: 5, 15; 15 + 18 = 33. What the front adds here, 13, is not kept.
    step 2, t <= boundary: x = 4: 4 + 8 = 12; 17, 33.
    step 3, the same:      x = 5: 5 + 8 = 13; 18, 35.
    """
    spec = "delta-dit(n=4,part=staged,layers=2,boundary=600)"
    assert outputs(spec, [1, 2, 4, 5]) == [27, 33, 33, 35]


def test_a_change_is_added_at_every_cached_step_by_hand():
    assert outputs("delta-dit(n=4,part=front,layers=2)", [1, 5, 5, 6]) == [27, 35, 35, 37]


def test_delta_dit_leaves_the_outer_skips_live_by_hand():
    """x = 1: 3, 9, 104: the middle changes 3 to 104, by 101.

    x = 5: 11; 11 + 101 = 112; 2 (112 + 10 * 11) - 1 = 443.
    """
    assert outputs("delta-dit(layers=2)", [1, 5], skips=True) == [267, 443]


def test_ranges_of_delta_dit():
    assert layers("delta-dit(part=front,layers=23)", PLAIN, 1) == (0, 22)
    assert layers("delta-dit(part=rear,layers=23)", PLAIN, 1) == (5, 27)
    assert layers("delta-dit(layers=31)", NATIVE, 1) == (5, 35)
    assert layers("delta-dit", PLAIN, 1) == (7, 27)  # early: the rear
    assert layers("delta-dit", PLAIN, 49) == (0, 20)  # late: the front
    assert layers("delta-dit", PLAIN, 29) == (0, 20)  # and from the boundary on, 400
    assert parse_cache("delta-dit").resolve(SKIPS).settings.part == "middle"
    assert layers("delta-dit", SKIPS, 1) == (4, 24)


@pytest.mark.parametrize(
    ("spec", "layout", "message"),
    [
        (
            "delta-dit(part=front,layers=5)",
            SKIPS,
            "layer 23 is joined with layer 4, which front would not run; take part=middle",
        ),
        ("delta-dit(layers=28)", PLAIN, "layers=28 of 28 is out of range; staged takes 1 to 27"),
        ("delta-dit(layers=27)", SKIPS, "layers=27 of 28 is out of range; middle takes 1 to 26"),
        ("faster-diffusion(split=28)", PLAIN, "split=28 of 28 layers is out of range"),
    ],
)
def test_refusals(spec, layout, message):
    with pytest.raises(UsageError) as caught:
        parse_cache(spec).resolve(layout)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("delta-dit", "n"),
        ("delta-dit", "layers"),
        ("faster-diffusion", "n"),
        ("faster-diffusion", "split"),
    ],
)
def test_zero_is_refused_and_not_taken_for_the_default(method, setting):
    with pytest.raises(UsageError, match=rf"^{setting}=0 .*; {setting} is 1 or more$"):
        parse_cache(f"{method}({setting}=0)")


@pytest.mark.parametrize("key", [50, -1])
def test_a_key_step_that_no_schedule_has(key):
    with pytest.raises(UsageError, match=rf"^keys: step {key} is out .*; take steps 0 to 49$"):
        parse_cache(f"faster-diffusion(keys=0/{key})")


def test_an_unknown_part():
    with pytest.raises(UsageError, match="did you mean 'front'"):
        parse_cache("delta-dit(part=frnt)")


def test_faster_diffusion_by_hand():
    """A step between key steps does not see its input: 9 goes into layers 2 and 3 again.

    Steps 0 and 2 are key steps; x = 2: 5, 15, 20, 39.
    """
    assert outputs("faster-diffusion(n=2)", [1, 100, 2, 7]) == [27, 27, 39, 39]


def test_faster_diffusion_keeps_the_skips_by_hand():
    assert outputs("faster-diffusion(n=2)", [1, 100], skips=True) == [267, 267]
    # three layers of encoder: layer 3 still gets the kept output of layer 0
    assert outputs("faster-diffusion(n=2,split=3)", [1, 100], skips=True) == [267, 267]


def test_key_steps_of_faster_diffusion():
    def keys(spec, steps):
        cache = parse_cache(spec).resolve(PLAIN)
        return [i for i, sites in enumerate(cache.reused(range(steps), guided=False)) if not sites]

    assert keys("faster-diffusion", 50) == [0, 1, 2, 3, 5, 10, 15, 25, 35]
    assert keys("faster-diffusion", 20) == [0, 1, 2, 4, 6, 10, 14]
    assert keys("faster-diffusion(n=4)", 50) == list(range(0, 50, 4))
    assert layers("faster-diffusion", PLAIN, 4) == (0, 13)
