"""SeaCache against diffusers' own way to apply it: hooks on a network, latents of flow matching."""

import pytest
import torch
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.hooks.hooks import CacheContext, _set_cache_context
from diffusers.hooks.sea_cache import SeaCacheConfig, apply_sea_cache
from torch import nn

from skipdit_cli.generate.hooks import attached
from skipdit_cli.samplers._schedule import signal_power
from skipdit_cli.sites import Layout
from skipdit_cli.spec import parse_cache

TIMESTEPS = list(range(950, -1, -50))
CASES = ("threshold=0.25", "threshold=0.4,max_consecutive_cached=0", "threshold=0.2,power_exp=2.0")


class Block(nn.Module):
    def __init__(self, index):
        super().__init__()
        self.index = index

    def forward(self, hidden_states):
        return hidden_states + torch.sin((self.index + 2) * hidden_states)


class Network(nn.Module):
    """Its hidden state is not what is denoised, so that the two can be given apart."""

    CHANNEL_DIM = 1
    SITES = {"layer": "transformer_blocks.{i}"}

    def __init__(self):
        super().__init__()
        self.transformer_blocks = nn.ModuleList(map(Block, range(3)))

    def forward(self, x, state):
        for block in self.transformer_blocks:
            state = block(state)
        return state

    def layout(self):
        return Layout("toy", 3, ())


@pytest.fixture
def registered():
    metadata = TransformerBlockMetadata(return_hidden_states_index=0)
    TransformerBlockRegistry.register(Block, metadata)
    yield
    del TransformerBlockRegistry._registry[Block]


@pytest.mark.parametrize("settings", CASES)
def test_outputs_and_full_steps_are_those_of_diffusers(settings, registered):
    generator = torch.Generator().manual_seed(4)
    x0, noise = torch.randn(2, 2, 3, 4, 8, 8, generator=generator)  # each [B, C, T, H, W]
    x0 = x0.cumsum(dim=-1) / 2  # a signal is smooth
    power = signal_power()[TIMESTEPS]
    signals, noises = power**0.5, (1 - power) ** 0.5
    states = torch.randn(6, generator=generator) + torch.linspace(0, 1, len(TIMESTEPS))[:, None]

    theirs, ours, model, calls = [], [], Network(), []
    cache = parse_cache(f"seacache({settings})").resolve(model.layout())
    apply_sea_cache(
        model,
        SeaCacheConfig(**vars(cache.settings), raw_vision_callback=lambda _, a, k: list(a[0])),
    )
    with torch.no_grad():
        for step, (signal, noisy) in enumerate(zip(signals, noises, strict=True)):
            sigma = noisy / (signal + noisy)
            _set_cache_context(model, CacheContext("", step, len(TIMESTEPS), None, sigma))
            theirs.append(model((1 - sigma) * x0 + sigma * noise, states[step]))
            calls.append(torch.equal(theirs[-1], Network()(None, states[step])))

    model = Network()
    with attached(model, cache, TIMESTEPS) as session:
        for step, (signal, noisy) in enumerate(zip(signals, noises, strict=True)):
            session.begin(step)
            ours.append(model(signal * x0 + noisy * noise, states[step]))
        full = [not sites for sites in session.reused]
    assert full == calls
    assert 2 < sum(full) < len(TIMESTEPS) - 2
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
