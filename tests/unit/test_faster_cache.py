"""FasterCache's attention worked out on paper: an attention that squares."""

import pytest
import torch
from torch import nn

from skipdit_cli.caches.faster_cache import Config, hooked, resolve, reused
from skipdit_cli.errors import UsageError
from skipdit_cli.hooks import attached
from skipdit_cli.sites import Layout, Site
from skipdit_cli.spec import parse_cache

LAYOUT = Layout("toy", 1, ("attn.temporal", "attn.cross", "mlp.spatial"))
SITE = Site("attn.temporal", 0)


class Square(nn.Module):
    def forward(self, x):
        return x * x


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = Square()

    def forward(self, x):
        return x + self.attn(x)

    def layout(self):
        return LAYOUT

    def sites(self):
        return {SITE: self.attn}


def outputs(timesteps, spec):
    """Of the inputs 1, 2, 3, ..."""
    model, found = Toy(), []
    with attached(model, parse_cache(spec), timesteps) as session:
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


def test_what_is_announced():
    planned = reused(Config(), LAYOUT, [900, 700, 600, 500])
    assert planned == [set(), set(), set(), {SITE}]
    assert hooked(Config(), LAYOUT) == [SITE]  # neither cross-attention nor the MLP
    assert Config() == Config(n=2, below=681, weight=0.5)


def test_a_model_without_self_attention():
    with pytest.raises(UsageError, match="needs self-attention and toy has none"):
        resolve(Config(), Layout("toy", 1, ("attn.cross",)))


@pytest.mark.parametrize("setting", ["n=0", "below=0", "below=1001", "weight=nan"])
def test_a_setting_without_meaning(setting):
    with pytest.raises(UsageError, match=f"^{setting} is "):
        parse_cache(f"faster-cache({setting})")
