"""What is in memory at a time, of tensors whose sizes are known."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.profiling import live
from skipdit_cli.profiling.latency import peak_bytes

FLOATS = 4 * 1000  # bytes of a thousand


def floats(count=1000):
    return torch.empty(count, device="meta")


def test_what_is_dropped_counts_no_more():
    def work():
        floats()
        floats()
        held = [floats(), floats()]
        del held[0]
        return held.append(floats())

    assert live.peak(work) == 2 * FLOATS


def test_a_view_is_no_memory_of_its_own():
    def work():
        x = floats()
        return x.view(10, 100)[2:], x.t()

    assert live.peak(work) == FLOATS


def test_what_was_there_before_is_left_out():
    x = floats()
    assert live.peak(lambda: x.add_(1), before=[x]) == 0
    assert live.peak(lambda: x + 1, before=[x]) == FLOATS


def test_attention_holds_its_output_alone():
    query = torch.empty(1, 2, 500, 8, device="meta")
    took = live.peak(lambda: F.scaled_dot_product_attention(query, query, query), before=[query])
    assert took == 4 * 2 * 500 * 8


def test_what_a_tensor_says_is_what_the_block_was_told():
    with live.Live(scalar=3.0):
        assert float(floats(1).sum()) == 3


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(4, 16)
        self.narrow = nn.Linear(16, 4)

    def forward(self, x):
        return x + self.narrow(F.gelu(self.wide(x)))


def test_a_block_by_hand():
    """5 x 16 before and after gelu at a time; x itself was there before."""
    block = Block().to("meta")
    x = torch.empty(5, 4, device="meta")
    before = [x, *block.parameters()]
    assert live.peak(lambda: block(x), before=before) == 4 * 5 * (16 + 16)


@pytest.mark.parametrize("model", ["digits-skip", "captioned-digits", "painted-digits"])
def test_a_network_holds_what_it_holds_on_a_processor(model):
    card = catalog.card(model)
    counted = live.sizes(networks.build(card), tokens=())
    network = networks.build(card, device="cpu").requires_grad_(False).eval()
    inputs = network.inputs(1)
    with torch.no_grad():
        measured = peak_bytes(lambda: network(**inputs))
    assert 4 * counted.step == pytest.approx(measured, rel=0.05)
    assert counted.weights == sum(each.numel() for each in network.state_dict().values())
    assert counted.latents == tuple(inputs["hidden_states"].shape[1:])
    assert set(counted.sites) == {"layer", *network.layout().kinds}


CONFIG = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
}


def test_decoding_holds_what_it_holds_on_a_processor():
    from diffusers import AutoencoderKL

    counted = live.decoding(CONFIG, (32, 32))
    network = AutoencoderKL(**{k: v for k, v in CONFIG.items() if k[0] != "_"}).eval()
    latents = torch.zeros(1, 4, 32, 32)
    with torch.no_grad():
        measured = peak_bytes(lambda: network.decode(latents))
    assert 4 * counted.values == pytest.approx(measured, rel=0.25)  # convolutions copy a little
    assert counted.weights == sum(each.numel() for each in network.parameters())
    four = live.decoding(CONFIG, (64, 64))
    assert 4 <= four.flops / counted.flops < 8  # attention grows faster
