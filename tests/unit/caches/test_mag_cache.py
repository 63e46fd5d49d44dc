"""MagCache worked out on paper: two layers that make 3(x + 1)."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.mag_cache import Config, Settings, at_steps, resolve, reused, skips
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout, Site
from skipdit_cli.spec import parse_cache

LAYOUT = Layout("toy", 2, ())
STEPS = 8
# errors from the last full step: 0.1, then 0.1 + |1 - 0.9 * 1.1| = 0.11, then 0.11 + ...
RATIOS = (1.0, 0.9, 0.9, 1.1, 0.8, 0.95, 0.95, 0.9)


class Layer(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Toy(nn.Module):
    SITES = {"layer": "layers.{i}"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Layer(lambda x: x + 1), Layer(lambda x: 3 * x)])

    def forward(self, x):
        return self.layers[1](self.layers[0](x))

    def layout(self):
        return LAYOUT


def test_the_schedule_by_hand():
    """Retention 0.25 of 8 steps: 0 and 1 are full, so the product starts at step 2.

    2: 0.9, error 0.1, skip. 3: 0.99, error 0.11, skip. 4: 0.792, error 0.318: full. 5: 0.95, error
    0.05, skip. 6: 0.9025, error 0.1475, skip. 7: 0.81225, error 0.33525: full.
    """
    settings = Settings(threshold=0.15, max_skip=3, retention=0.25, ratios=RATIOS)
    assert skips(settings, STEPS) == [False, False, True, True, False, True, True, False]
    strict = Config(threshold=0.15, max_skip=1, retention=0.25, ratios=RATIOS)
    # 3 is full because of max_skip; 4 then has 0.8 alone, 0.2; 5 and 6 as above, one skip each
    assert skips(strict, STEPS) == [False, False, True, False, False, True, False, True]


def test_the_steps_that_are_retained_are_rounded():
    """0.35 of 5 steps is 1.75: two."""
    settings = Settings(threshold=9, max_skip=9, retention=0.35, ratios=(1.0,) * 5)
    assert skips(settings, 5) == [False, False, True, True, True]


def test_samples_by_hand():
    """x -> 3x + 3, so 2x + 3 is added: that of 1 at steps 2 and 3, of 4 at 5 and 6."""
    model, found = Toy(), []
    spec = f"mag-cache(threshold=0.15,retention=0.25,ratios={'/'.join(map(str, RATIOS))})"
    with attached(model, parse_cache(spec).resolve(model.layout()), range(STEPS)) as session:
        for step in range(STEPS):
            session.begin(step)
            found.append(model(torch.tensor(float(step))))
        computed = {step for step, _ in session.computed}
    assert found == [3, 6, 2 + 5, 3 + 5, 15, 5 + 11, 6 + 11, 24]
    assert computed == {0, 1, 4, 7}


def test_a_second_generation_starts_over():
    model = Toy()
    spec = "mag-cache(threshold=9,max_skip=9,retention=0,ratios=1/1/1/1)"
    with attached(model, parse_cache(spec).resolve(model.layout()), range(4)) as session:
        for x in (0.0, 5.0):  # computed: 3x + 3, which adds 2x + 3; then skipped
            for step, given, expected in ((0, x, 3 * x + 3), (1, 1.0, 1 + 2 * x + 3)):
                session.begin(step)
                assert model(torch.tensor(given)) == expected
            session.reset()


@pytest.mark.parametrize(
    ("steps", "calibrated"), [(6, 6), (6, 9), (9, 6), (50, 28), (1, 4), (4, 1)]
)
def test_diffusers_takes_the_same_decisions(steps, calibrated):
    generator = torch.Generator().manual_seed(steps * calibrated)
    ratios = (0.9 + 0.2 * torch.rand(calibrated, generator=generator)).tolist()
    spec = f"mag-cache(threshold=0.12,retention=0.1,ratios={'/'.join(map(str, ratios))})"
    model = Toy()
    cache = parse_cache(spec).resolve(LAYOUT)
    with attached(model, cache, range(steps)) as session:
        for step in range(steps):
            session.begin(step)
            model(torch.tensor(1.0))
        computed = [(step, Site("layer", 0)) in session.computed for step in range(steps)]
    assert computed == [not skip for skip in skips(cache.settings, steps)]
    assert computed == [not sites for sites in reused(cache.settings, LAYOUT, range(steps))]


def test_other_numbers_of_steps_take_the_nearest_ratio():
    settings = resolve(Config(ratios=(1.0, 2.0, 3.0)), LAYOUT)
    assert at_steps(settings, 5) == [1, 1, 2, 3, 3]  # 0, 0.5, 1, 1.5, 2: halves go to the even one
    assert at_steps(settings, 3) == [1, 2, 3]
    assert at_steps(settings, 2) == [1, 3]


def test_each_of_two_networks_that_take_turns_has_its_ratios():
    """0.8 is not skipped by the first, which retains its first step alone, as the second does."""
    ratios = (1.0, 0.8, 0.99, 1.0, 0.99, 0.99)
    spec = f"mag-cache(threshold=0.05,retention=0,ratios={'/'.join(map(str, ratios))})"
    cache = parse_cache(spec).resolve(LAYOUT)
    first, second = cache.in_turn(range(3), 6), cache.in_turn(range(3, 6), 6)
    assert (first.settings.ratios, second.settings.ratios) == (ratios[:3], ratios[3:])
    computed = [
        [not sites for sites in each.reused(range(3), guided=False)] for each in (first, second)
    ]
    assert computed == [[True, True, False], [True, False, False]]
    assert cache.in_turn(range(6), 6) is cache
    assert cache.in_turn(range(2), 3).settings.ratios == (1.0, 0.99)  # of 0, 2.5 and 5: 0, 2, 5


def test_a_ratio_of_one_is_no_error_but_threshold_zero_skips_nothing():
    assert any(skips(resolve(Config(threshold=1e-9, ratios=(1.0,) * 8), LAYOUT), 8))
    assert not any(skips(resolve(Config(threshold=0, ratios=(1.0,) * 8), LAYOUT), 8))


def test_without_ratios_the_command_is_named():
    assert (Config().threshold, Config().max_skip, Config().retention) == (0.06, 3, 0.2)
    with pytest.raises(UsageError) as caught:
        resolve(Config(), LAYOUT)
    assert str(caught.value) == (
        "mag-cache needs ratios; `skipdit analyze calibrate --method mag-cache` finds them"
    )


@pytest.mark.parametrize("setting", ["threshold=-1", "max_skip=-1", "retention=2", "ratios=1/0"])
def test_a_setting_without_meaning(setting):
    with pytest.raises(UsageError, match=f"^{setting.split('=')[0]}.* in 'mag-cache"):
        parse_cache(f"mag-cache({setting})")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_settings_that_are_not_finite(value):
    for setting in ("threshold=", "retention=", "ratios=1/"):
        name = setting.partition("=")[0]
        with pytest.raises(UsageError, match=rf"\) {name}: '{value}' is not a number$"):
            parse_cache(f"mag-cache({setting}{value})")
    for name in ("threshold", "retention"):
        with pytest.raises(UsageError, match=f"^{name}={value} is out of range; take "):
            Config(**{name: float(value)})
    with pytest.raises(UsageError, match=r"^ratios must be positive; run `skipdit analyze "):
        Config(ratios=(1.0, float(value)))
