"""Skip-Cache worked out on paper: a network of four layers with whole numbers."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.skip_cache import (
    Config,
    Settings,
    caution,
    full_steps,
    hooked,
    resolve,
    reused,
)
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout, Site
from skipdit_cli.spec import parse_cache

KINDS = ("attn.spatial", "mlp.spatial")


def layout(layers, family="toy"):
    skips = tuple((to, layers - 1 - to) for to in range(layers // 2, layers))
    return Layout(family, layers, KINDS, skips)


class Layer(nn.Module):
    """x -> a x + b, after x <- x + 10 skip where there is a skip."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x, skip=None):
        if skip is not None:
            x = x + 10 * skip
        return self.a * x + self.b


class Toy(nn.Module):
    """Layers 0 and 1 feed 3 and 2."""

    SITES = {"layer": "layers.{i}"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer(2, 1), Layer(3, 0), Layer(1, 5), Layer(2, -1)])

    def forward(self, x):
        first = self.layers[0](x)
        second = self.layers[1](first)
        return self.layers[3](self.layers[2](second, second), skip=first)

    def layout(self):
        return Layout("toy", 4, (), ((2, 1), (3, 0)))


def test_the_toy_network_by_hand():
    """x = 1: 2*1+1 = 3; 3*3 = 9; 9+10*9 = 99, 99+5 = 104; 104+10*3 = 134, 2*134-1 = 267."""
    assert Toy()(torch.tensor(1.0)) == 267


def test_cached_steps_by_hand():
    """n = 2, branch = 1, timesteps inside the window: full, cached, full, cached.

    step 0, x = 1, full:   layer 0: 3, layer 1: 9, layer 2: 104; stored: 104; layer 3: 267.
    step 1, x = 5, cached: layer 0: 11; 104 in place of layers 1 and 2;
                           104 + 10*11 = 214, 2*214 - 1 = 427.
    step 2, x = 2, full:   layer 0: 5, layer 1: 15, layer 2: 15 + 150 + 5 = 170; stored: 170;
                           170 + 50 = 220, 2*220 - 1 = 439.
    step 3, x = 3, cached: layer 0: 7; 170 + 70 = 240, 2*240 - 1 = 479.
    """
    model, outputs = Toy(), []
    cache = parse_cache("skip-cache(n=2,window=1000-0,branch=1)").resolve(model.layout())
    with attached(model, cache, [999, 600, 300, 100]) as session:
        for step, x in enumerate((1.0, 5.0, 2.0, 3.0)):
            session.begin(step)
            outputs.append(model(torch.tensor(x)).item())
        computed = {(step, site.layer) for step, site in session.computed}
        assert session.stores[""] == {"full": ((2, torch.tensor(170.0)),)}
    assert outputs == [267, 427, 439, 479]
    # Layers 1 to 3 are hooked: 1 and 2 are reused, 3 is where the state is stored and taken.
    assert computed == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 1), (2, 2), (2, 3), (3, 3)}
    assert set(session.computed.values()) <= {1}
    assert not session.stores
    assert model(torch.tensor(5.0)) == 955  # 11; 33; 33+330+5 = 368; 368+110 = 478, 2*478-1


def outputs(spec, timesteps, xs):
    """What the toy gives for each step."""
    model = Toy()
    with attached(model, parse_cache(spec).resolve(model.layout()), timesteps) as session:
        for step, x in enumerate(xs):
            session.begin(step)
            yield model(torch.tensor(x)).item()


def test_a_line_through_the_last_two_full_steps_by_hand():
    """n = 3, order = 1: steps 0, 3 and 6 are full, with states 104, 170 and 38 (1; 3; 33 + 5).

    steps 1 and 2, x = 1: one full step is known, 104: 104 + 10*3 = 134, 2*134 - 1 = 267.
    step 4, x = 1: 170 + 1/3 (170 - 104) = 192; 192 + 30 = 222, 443.
    step 5, x = 1: 170 + 2/3 (170 - 104) = 214; 244, 487.
    step 6, x = 0: 38 + 10 = 48, 95.
    step 7, x = 1: 38 + 1/3 (38 - 170) = -6; 24, 47. The state of step 0 counts no more.
    """
    steps, xs = [900, 800, 700, 600, 500, 400, 300, 200], [1.0, 1, 1, 2, 1, 1, 0, 1]
    spec = "skip-cache(n=3,window=1000-0,branch=1,order={})"
    found = list(outputs(spec.format(1), steps, xs))
    assert found == [267, 267, 267, 439, 443, pytest.approx(487), 95, 47]
    repeated = [2 * (state + 30) - 1 for state in (104, 104, 170, 170, 38)]
    assert [list(outputs(spec.format(0), steps, xs))[i] for i in (1, 2, 4, 5, 7)] == repeated


def test_it_counts_the_steps_between_the_full_ones():
    """Steps above the window's start are full: 0, 1 and 4, so that step 5 is a third further.

    States 104 (x = 1), 170 (x = 2) and 38 (x = 0) as above.
    steps 2 and 3, x = 1: 170 + 1 (170 - 104) = 236 and 302; 266, 531 and 332, 663.
    step 5, x = 1: 38 + 1/3 (38 - 170) = -6; 24, 47.
    """
    steps, xs = [900, 850, 700, 600, 500, 400], [1.0, 2, 1, 1, 0, 1]
    found = list(outputs("skip-cache(n=4,window=850-0,branch=1,order=1)", steps, xs))
    assert found == [267, 439, 531, 663, 95, 47]


def test_behind_the_stop_there_is_one_full_step_again():
    """Timestep 10 is at the stop, where all is forgotten: step 4 repeats step 3's 170."""
    steps, xs = [500, 400, 10, 500, 400], [1.0, 2, 2, 2, 1]
    found = list(outputs("skip-cache(n=2,window=1000-20,branch=1,order=1)", steps, xs))
    assert found[4] == 2 * (170 + 30) - 1
    model = Toy()
    cache = parse_cache("skip-cache(n=2,window=1000-20,branch=1,order=1)").resolve(model.layout())
    with attached(model, cache, steps) as session:
        for step, x in enumerate(xs[:3]):
            session.begin(step)
            model(torch.tensor(x))
            assert bool(session.stores[""]) == (step < 2)


def test_the_order_of_the_paper_is_not_told():
    """Runs from before there was an order keep their keys, and order 1 has one of its own."""
    plain, zero, one = (
        parse_cache(text).resolve(Toy().layout())
        for text in ("skip-cache(n=3)", "skip-cache(n=3,order=0)", "skip-cache(n=3,order=1)")
    )
    assert plain == zero
    assert str(plain) == "skip-cache(n=3,window=700-50,branch=1)"
    assert str(one) == "skip-cache(n=3,window=700-50,branch=1,order=1)"
    assert str(parse_cache("skip-cache(n=3)")) == "skip-cache(n=3)"
    assert parse_cache(str(one)).resolve(Toy().layout()) == one
    assert not plain.note
    assert one.note == "Skip-Cache with order=1 extrapolates what the paper's repeats."


def test_it_warns_of_noise_where_it_extrapolates():
    said = "order=1 extrapolates, and with noise added at every step that can lose to order=0"
    one, zero = (Settings(3, (1000, 0), 1, order) for order in (1, 0))
    assert caution(one, stochastic=True) == said
    assert not caution(one, stochastic=False)
    assert not caution(zero, stochastic=True)


def test_what_is_stored_is_the_state_before_the_skip_is_joined():
    """Otherwise the fresh skip would not count: step 1 would give 2*(104 + 10*3) - 1 = 267."""
    model = Toy()
    with attached(
        model, parse_cache("skip-cache(n=2,branch=1)").resolve(model.layout()), [600, 500]
    ) as session:
        session.begin(0)
        model(torch.tensor(1.0))
        session.begin(1)
        assert model(torch.tensor(1.0)) == 267
        assert model(torch.tensor(0.0)) == 227  # 1; 104 + 10*1 = 114, 2*114 - 1


TIMESTEPS = [999, 950, 900, 899, 700, 500, 300, 100, 50, 40, 30]


@pytest.mark.parametrize(
    ("n", "window", "strict", "full"),
    [
        # 999, 950, 900 are at or above the start; they count, so 899 is step 3 of the counting.
        # 3 % 4: cached; 4: full; 5, 6, 7: cached; 8 (t = 50): full, and reaches the stop; all full.
        (4, (900, 50), False, [1, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1]),
        # Strictly, 50 has not reached the stop: 40 is count 9 and cached, and reaches it; 30 full.
        (4, (900, 50), True, [1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 1]),
        # counts 3 and 6 are full; the first step at the stop (t = 50, count 8) is still cached.
        (3, (900, 50), False, [1, 1, 1, 1, 0, 0, 1, 0, 0, 1, 1]),
        # The start is above every timestep: plain every second step, down to the stop at 50.
        (2, (1000, 50), False, [1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
        # 500 and below have reached the stop.
        (2, (1000, 500), False, [1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1]),
        (1, (1000, 0), False, [1] * 11),
        (99, (1000, 0), False, [1] + [0] * 10),
    ],
)
def test_full_steps_by_hand(n, window, strict, full):
    found = full_steps(Settings(n, window, 1), TIMESTEPS, strict_stop=strict)
    assert found == [bool(step) for step in full]


def test_a_generation_after_the_stop_starts_with_a_full_step():
    """The official classes have no reset and rely on the stop being reached."""
    timesteps = [500, 400, 10, 500, 400, 300, 200]
    found = full_steps(Settings(3, (1000, 20), 1), timesteps, strict_stop=False)
    assert found == [True, False, False, True, False, False, True]  # counted from 0 again


@pytest.mark.parametrize(
    ("family", "layers", "window", "branch"),
    [("dit", 28, (1000, 20), 4), ("latte", 14, (900, 50), 1), ("hunyuan_dit", 40, (700, 50), 1)],
)
def test_defaults_of_a_family(family, layers, window, branch):
    assert resolve(Config(n=3), layout(layers, family)) == Settings(3, window, branch)
    own = Config(2, (800, 100), 2)
    assert resolve(own, layout(layers, family)) == Settings(2, (800, 100), 2)


@pytest.mark.parametrize(
    ("layers", "branch"), [(28, 4), (10, 4), (9, 4), (8, 3), (6, 2), (4, 1), (3, 1)]
)
def test_a_shallow_network_keeps_a_layer_to_reuse(layers, branch):
    """Eight layers: branch 4 would run all of them, 3 leaves two."""
    settings = resolve(Config(), layout(layers, "dit"))
    assert settings.branch == branch
    assert any(reused(settings, layout(layers, "dit"), [600, 500]))


def test_which_sites_are_reused_and_which_are_hooked():
    settings = resolve(Config(n=2, branch=2), layout(6))
    middle = {Site(kind, i) for kind in ("layer", *KINDS) for i in (2, 3)}
    assert reused(settings, layout(6), [600, 500, 400]) == [frozenset(), middle, frozenset()]
    assert hooked(settings, layout(6)) == [Site("layer", 2), Site("layer", 3), Site("layer", 4)]


def test_only_latte_stops_strictly():
    def steps(family):
        settings = Settings(n=4, window=(900, 50), branch=1)
        return [bool(sites) for sites in reused(settings, layout(8, family), TIMESTEPS)]

    assert steps("dit") == steps("latte_t2v") == steps("hunyuan_dit")
    assert steps("latte") != steps("dit")
    assert steps("latte")[9]  # t = 40 is cached


@pytest.mark.parametrize(
    ("config", "chosen", "message"),
    [
        (
            Config(),
            Layout("dit", 8, KINDS),
            "skip-cache needs skip branches and dit was built without them; "
            "take a model with skip branches (skipdit ls models)",
        ),
        (
            Config(branch=4),
            layout(8),
            "branch=4 leaves no layer to reuse of 8; branch is at most 3",
        ),
        (Config(), layout(2), "branch=1 leaves no layer to reuse of 2; branch is at most 0"),
        (
            Config(branch=1),
            Layout("toy", 4, KINDS, ((2, 1), (3, 1))),
            "layer 3 is joined with layer 1, which would not be run",
        ),
    ],
)
def test_models_without_meaning(config, chosen, message):
    with pytest.raises(UsageError) as caught:
        resolve(config, chosen)
    assert str(caught.value) == message


@pytest.mark.parametrize("settings", [{"n": 0}, {"n": -1}, {"branch": 0}])
def test_settings_without_meaning(settings):
    (name, value), *_ = settings.items()
    with pytest.raises(UsageError, match=rf"^{name}={value} .*; {name} is 1 or more$"):
        Config(**settings)


@pytest.mark.parametrize("order", [-1, 2])
def test_there_are_two_orders(order):
    with pytest.raises(UsageError, match=rf"^order={order} is not known; order is 0 or 1$"):
        Config(order=order)
