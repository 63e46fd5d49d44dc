"""A family of somebody else, one file: loaded, counted, cached; and what its file may lack."""

import functools
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from skipdit_cli import registry
from skipdit_cli.checkpoints import networks, official
from skipdit_cli.checkpoints.card import Card, Sampling
from skipdit_cli.errors import SkipditError
from skipdit_cli.generate.hooks import attached
from skipdit_cli.profiling.macs import site_costs
from skipdit_cli.sites import Site
from skipdit_cli.spec import parse_cache

FOLDER = Path(__file__).parent / "families"
PIXART = Card(
    "tiny-pixart",
    "pixart",
    "t2i",
    "PixArt-digits/2",
    skip=False,
    sampling=Sampling("ddim", "4"),
    tiny="painted-digits",
)


@pytest.fixture
def family(monkeypatch, tmp_path):
    """family(old, new) -> the family `pixart` from a copy of its file with a change."""

    def make(old="", new=""):
        source = (FOLDER / "pixart.py").read_text(encoding="utf-8")
        assert old in source
        (tmp_path / "their_pixart.py").write_text(source.replace(old, new) if old else source)
        return registry.load("models", "pixart")

    entry = EntryPoint("pixart", "their_pixart", "skipdit.models")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        registry, "_entry_points", lambda group: {"pixart": entry} if "models" in group else {}
    )
    monkeypatch.setattr(registry, "_load", functools.cache(registry._load.__wrapped__))
    yield make
    sys.modules.pop("their_pixart", None)


@pytest.fixture
def trained(tmp_path):
    """trained(family) -> (a network that was never on the meta device, its file of weights)."""

    def make(family):
        torch.manual_seed(0)
        model = family.MODEL(**networks.arguments(PIXART)).requires_grad_(False).eval()
        torch.nn.init.normal_(model.proj_out.weight)
        path = tmp_path / "pixart.safetensors"
        save_file(model.state_dict(), path)
        return model, path

    return make


def given(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = model.inputs(2)
    return {
        key: torch.full_like(value, 500)
        if key == "timestep"
        else torch.randn(value.shape, generator=generator)
        for key, value in inputs.items()
    }


def test_buffers_that_no_file_holds_are_computed_again(family, trained):
    """The table of positions of diffusers' PatchEmbed is in no state dict."""
    model, path = trained(family())
    assert "pos_embed.pos_embed" not in model.state_dict()
    loaded = networks.load(PIXART, path=path)
    assert torch.equal(loaded.pos_embed.pos_embed, model.pos_embed.pos_embed)
    expected = model(**given(model), return_dict=False)[0]
    assert torch.equal(loaded(**given(model), return_dict=False)[0], expected)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    half = networks.load(PIXART, path=path, dtype="bfloat16")
    assert half.pos_embed.pos_embed.dtype == torch.bfloat16
    again = official.from_official("pixart", networks.arguments(PIXART), model.state_dict())
    assert torch.equal(again(**given(model), return_dict=False)[0], expected)


def test_a_tensor_that_is_no_buffer(family, trained):
    own = "self.scale = torch.ones(3)\n"
    _, path = trained(
        family(
            "    def forward(\n",
            "    def __init__(self, **arguments):\n        super().__init__(**arguments)\n"
            f"        {own}\n    def forward(\n",
        )
    )
    with pytest.raises(SkipditError) as caught:
        networks.load(PIXART, path=path)
    assert str(caught.value) == (
        "family pixart: scale has no values once the weights are loaded; compute it in the "
        "constructor as a buffer (register_buffer)"
    )


def test_it_is_counted_and_cached(family, trained):
    """At the second step the attention of the first one is added, to another input."""
    pixart = family()
    _, path = trained(pixart)
    model = networks.load(PIXART, path=path)
    costs = site_costs(model, model.inputs(1), official=pixart.official_calls(model))
    tokens, text, width, layers = 64, 120, 16, 3
    attention = tokens * width * 4 * width
    assert costs.sites[Site("attn.spatial", 0)].macs_paper == attention
    cross = tokens * width * 2 * width + text * width * 2 * width
    assert costs.sites[Site("attn.cross", 2)].macs_paper == cross
    fora = parse_cache("fora(n=2,window=999-0)").resolve(model.layout())
    plain = [model(**given(model, seed), return_dict=False)[0] for seed in (0, 1)]
    with attached(model, fora, [900, 800]) as session:
        found = []
        for step in (0, 1):
            session.begin(step)
            found.append(model(**given(model, step), return_dict=False)[0])
        assert len(session.computed) == 3 * layers
    assert torch.equal(found[0], plain[0])
    assert not torch.allclose(found[1], plain[1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("def convert", "def other", "`convert` is missing"),
        ("MODEL = PixArt", "", "`MODEL` is missing"),
        ("    SITES = SITES\n", "", "`MODEL` has no SITES"),
        ("    def layout", "    def plan", "`MODEL` has no layout"),
    ],
)
def test_what_a_file_lacks(family, old, new, message):
    with pytest.raises(SkipditError, match=rf"their_pixart\.py: {message}; "):
        family(old, new)
