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
    """Full at 0, 1, 4, 7 (n = 3): 1, 4, then 4 + 3 = 7 and 4 + 2 * 3 = 10 for steps 2 and 3.

    Step 4 is full: 25, slope (25 - 4) / 3 = 7. Steps 5 and 6: 25 + 7, 25 + 14. The input is added.
    """
    found, computed = outputs([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], "taylorseer(n=3)")
    assert found == [2, 6, 3 + 7, 4 + 10, 30, 6 + 32, 7 + 39, 72]
    assert computed == {(step, MLP): 1 for step in (0, 1, 4, 7)}


def test_the_first_order_of_diffusers_by_hand():
    """Full at 0, 1, 2, 4, 7 (warm-up 3, n = 3): 1, 4, 9, then 9 + (9 - 4) = 14 for step 3.

    Step 4 is full: 25, slope (25 - 9) / 2 = 8. Steps 5 and 6: 25 + 8, 25 + 16. The input is added.
    """
    inputs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    found, computed = outputs(inputs, "taylorseer(n=3,schedule=diffusers)")
    assert found == [2, 6, 12, 4 + 14, 30, 6 + 33, 7 + 41, 72]
    assert computed == {(step, MLP): 1 for step in (0, 1, 2, 4, 7)}


def test_the_second_order_by_hand():
    """1, 4, 9: first differences 3 and 5, the second one 2: 9 + 5 + 2 / 2 = 15."""
    found, _ = outputs([1.0, 2.0, 3.0, 4.0], "taylorseer(order=2,schedule=diffusers)")
    assert found == [2, 6, 12, 4 + 15]


def test_the_authors_differences_begin_at_the_last_of_the_first_steps():
    """1, 4, 9: at the third full step there is one difference, 5, and no second one: 9 + 5.

    At the next full step, 5, there is 36: difference (36 - 9) / 3 = 9, the second one
    (9 - 5) / 3 = 4 / 3: 36 + 9 + (4 / 3) / 2.
    """
    inputs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    found, computed = outputs(inputs, "taylorseer(n=3,warmup=3,order=2)")
    assert computed == {(step, MLP): 1 for step in (0, 1, 2, 5)}
    assert found == pytest.approx([2, 6, 12, 4 + 14, 5 + 19, 42, 7 + 45 + 2 / 3])


def test_order_zero_repeats():
    found, _ = outputs([1.0, 2.0, 3.0], "taylorseer(order=0)")
    assert found == [2, 6, 3 + 4]


def test_the_factors_have_the_dtype_of_the_model():
    """bfloat16, in which diffusers keeps them, has no 257."""
    found, _ = outputs([1.0, 257.0**0.5, 0.0], "taylorseer(order=0)")
    assert found[2] == pytest.approx(257, abs=1e-3)


@pytest.mark.parametrize(
    ("config", "full"),
    [
        (Config(), [0, 1, 6, 11, 16]),
        (Config(n=4, warmup=1), [0, 4, 8, 12, 16]),
        (Config(warmup=3), [0, 1, 2, 7, 12, 17]),
        (Config(n=1), range(20)),
        (Config(schedule="diffusers"), [0, 1, 2, 4, 9, 14, 19]),
        (Config(schedule="diffusers", warmup=2), [0, 1, 3, 8, 13, 18]),
    ],
)
def test_full_steps(config, full):
    planned = reused(resolve(config, LAYOUT), LAYOUT, range(20))
    assert [step for step, sites in enumerate(planned) if not sites] == list(full)
    assert all(sites == {MLP} for sites in planned if sites)


def test_whose_schedule_it_is_stands_under_a_table():
    assert parse_cache("taylorseer").resolve(LAYOUT).note == ""
    assert parse_cache("taylorseer(schedule=diffusers)").resolve(LAYOUT).note == (
        "taylorseer: full steps are those of diffusers, not of its authors."
    )


def test_resolved_it_names_its_schedule():
    resolved = parse_cache("taylorseer(schedule=diffusers)").resolve(LAYOUT)
    assert str(resolved) == "taylorseer(n=5,warmup=3,order=1,schedule=diffusers)"
    assert str(parse_cache(str(resolved)).resolve(LAYOUT)) == str(resolved)


def test_every_attention_and_mlp_is_a_site():
    layout = Layout("toy", 2, ("attn.spatial", "mlp.spatial"))
    assert set(hooked(resolve(Config(), layout), layout)) == {
        Site(k, i) for k in layout.kinds for i in (0, 1)
    }
    with pytest.raises(UsageError, match="attention or MLP"):
        resolve(Config(), Layout("toy", 2, ()))


@pytest.mark.parametrize("setting", ["n=0", "warmup=0", "order=-1"])
def test_a_setting_without_meaning(setting):
    with pytest.raises(UsageError, match=f"^{setting} "):
        parse_cache(f"taylorseer({setting})")


def test_an_unknown_schedule():
    with pytest.raises(UsageError, match=r"^unknown schedule 'diffuser'.*mean 'diffusers'\?$"):
        parse_cache("taylorseer(schedule=diffuser)")
