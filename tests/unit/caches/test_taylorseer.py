"""TaylorSeer worked out on paper: an MLP that squares, in a layer that adds it to its input."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.taylorseer import Config, hooked, resolve, reused
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout, Site
from skipdit_cli.spec import parse_cache

LAYOUT = Layout("toy", 1, ("mlp.spatial",))
MLP = Site("mlp.spatial", 0)


class Square(nn.Module):
    def forward(self, x):
        return x * x


class Toy(nn.Module):
    SITES = {"layer": "", "mlp.spatial": "mlp"}

    def __init__(self):
        super().__init__()
        self.mlp = Square()

    def forward(self, x):
        return x + self.mlp(x)

    def layout(self):
        return LAYOUT


def outputs(inputs, spec):
    model, found = Toy(), []
    with attached(model, parse_cache(spec).resolve(model.layout()), range(len(inputs))) as session:
        for step, x in enumerate(inputs):
            session.begin(step)
            found.append(model(torch.tensor(x)))
        return found, session.computed


def test_the_first_order_by_hand():
    """Full at 0, 1, 2, 4, 7 (warm-up 3, n = 3): 1, 4, 9, then 9 + (9 - 4) = 14 for step 3.

    Step 4 is full: 25, slope (25 - 9) / 2 = 8. Steps 5 and 6: 25 + 8, 25 + 16. The input is added.
    """
    found, computed = outputs([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], "taylorseer(n=3)")
    assert found == [2, 6, 12, 4 + 14, 30, 6 + 33, 7 + 41, 72]
    assert computed == {(step, MLP): 1 for step in (0, 1, 2, 4, 7)}


def test_the_second_order_by_hand():
    """1, 4, 9: first differences 3 and 5, the second one 2: 9 + 5 + 2 / 2 = 15."""
    found, _ = outputs([1.0, 2.0, 3.0, 4.0], "taylorseer(order=2)")
    assert found == [2, 6, 12, 4 + 15]


def test_order_zero_repeats():
    found, _ = outputs([1.0, 2.0, 3.0, 4.0], "taylorseer(order=0)")
    assert found == [2, 6, 12, 4 + 9]


def test_the_factors_have_the_dtype_of_the_model():
    """bfloat16, in which diffusers keeps them, has no 257."""
    found, _ = outputs([1.0, 1.0, 257.0**0.5, 0.0], "taylorseer(order=0)")
    assert found[3] == pytest.approx(257, abs=1e-3)


def test_full_steps_of_the_defaults():
    """As diffusers does it: i < 3 and (i - 4) % 5 == 0."""
    planned = reused(Config(), LAYOUT, range(20))
    assert [step for step, sites in enumerate(planned) if not sites] == [0, 1, 2, 4, 9, 14, 19]
    assert planned[3] == {MLP}


def test_every_attention_and_mlp_is_a_site():
    layout = Layout("toy", 2, ("attn.spatial", "mlp.spatial"))
    assert set(hooked(Config(), layout)) == {Site(k, i) for k in layout.kinds for i in (0, 1)}
    with pytest.raises(UsageError, match="attention or MLP"):
        resolve(Config(), Layout("toy", 2, ()))


@pytest.mark.parametrize("setting", ["n=0", "warmup=0", "order=-1"])
def test_a_setting_without_meaning(setting):
    with pytest.raises(UsageError, match=f"^{setting} "):
        parse_cache(f"taylorseer({setting})")
