"""What is in memory at a time, of tensors whose sizes are known."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_leaves

from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.profiling import live
from skipdit_cli.profiling.latency import peak_bytes

FLOATS = 4 * 1000  # bytes of a thousand
new = live._new


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


REPEATED = {
    "a view": lambda x, y: x.view(-1),
    "a view that is not declared as one": lambda x, y: torch.ops.aten._unsafe_view(x, [-1]),
    "in place": lambda x, y: x.add_(1),
    "a number of another type": lambda x, y: (y + 1, y + 1.0, y + True, x.sum(), y.sum()),
    "strides": lambda x, y: (x.t() * 2, x.t().contiguous() * 2, x[1:] * 2),
    "several": lambda x, y: torch.ops.aten.native_layer_norm(x, [20], None, None, 1e-5),
    "several that share": lambda x, y: (x.split(10), (x * 2).split(10)),
    "given to be written": lambda x, y: torch.mul(x, x, out=floats(1000).view(50, 20)),
    "precision": lambda x, y: (x.half(), x.half() + x, x.to(torch.float64)),
    "a processor's": lambda x, y: (torch.ones(3) * 3, torch.ones(3).sum().item()),
}


@pytest.mark.parametrize("work", REPEATED.values(), ids=REPEATED)
def test_an_operation_that_is_done_again_gives_the_same(monkeypatch, work):
    """It is not asked a second time what torch makes of the same shapes."""

    def told():
        x, y = floats().view(50, 20), torch.empty(7, dtype=torch.int64, device="meta")
        with torch.no_grad(), live.Live() as counted:
            counted.held_before(x, y)
            result = work(x, y)
            leaves = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
            held = {each.untyped_storage() for each in leaves}
            seen = [(each.shape, each.stride(), each.dtype, each.device) for each in leaves]
            return seen, len(held), x.untyped_storage() in held, counted.now, counted.peak

    monkeypatch.setattr(live, "_results", {})
    first = told()
    assert told() == first
    with monkeypatch.context() as patch:
        patch.setattr(live, "_made", lambda func, args, kwargs: func(*args, **kwargs))
        assert told() == first


def test_an_operation_that_is_done_again_is_not_asked_again(monkeypatch):
    asked = []
    monkeypatch.setattr(live, "_results", {})
    monkeypatch.setattr(live, "_new", lambda *a, **k: asked.append(1) or new(*a, **k))
    for _ in range(3):
        live.peak(lambda: floats() * 2)
    assert len(asked) == 2  # a tensor and its double


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
