"""AdaCache against its authors' blocks: the steps that these computed for given residuals.

`golden/adacache/make.py` ran them.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from skipdit_cli.generate.hooks import attached
from skipdit_cli.sites import Layout
from skipdit_cli.spec import parse_cache

GOLDEN = json.loads((Path(__file__).parent / "golden/adacache/decisions.json").read_text())
CASES = GOLDEN["cases"]
RESIDUALS = torch.tensor(GOLDEN["residuals"]).transpose(-1, -2)[..., None]
LAYERS, STEPS = RESIDUALS.shape[:2]  # then [places, frames, 1]


class Given(nn.Module):
    """Attention that gives what it is told."""

    def forward(self, x):
        return self.now


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = Given()

    def forward(self, x):
        return x + self.attn(x)


class Toy(nn.Module):
    SITES = {"layer": "layers.{i}", "attn.temporal": "layers.{i}.attn"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def layout(self):
        return Layout("toy", LAYERS, ("attn.temporal",))


def value_of(name, value):
    if name == "moreg_hyp":
        value = value[:3]  # they never read the fourth
    return str(value).lower() if isinstance(value, bool | int) else "/".join(map(str, value))


@pytest.mark.parametrize("case", CASES)
def test_full_steps_and_what_is_reused_are_those_of_the_authors(case):
    given = {key: value for key, value in CASES[case].items() if key != "full"}
    spec = f"adacache({','.join(f'{key}={value_of(key, given[key])}' for key in given)})"
    model, kept = Toy(), 0
    with attached(model, parse_cache(spec).resolve(model.layout()), range(STEPS)) as session:
        for step in range(STEPS):
            for layer, residuals in zip(model.layers, RESIDUALS, strict=True):
                layer.attn.now = residuals[step]
            session.begin(step)
            output = model(torch.zeros_like(RESIDUALS[0, 0]))
            kept = RESIDUALS[:, step].sum(dim=0) if step in CASES[case]["full"] else kept
            assert torch.equal(output, kept)
        full = [step for step, sites in enumerate(session.reused) if not sites]
    assert full == CASES[case]["full"]
