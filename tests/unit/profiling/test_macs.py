"""MACs by the paper's counting, FLOPs with attention: against hand counts and published cells."""

import pytest
import torch
from torch import nn

from skipdit_cli.plan import plan
from skipdit_cli.profiling.cost import Cost, Costs
from skipdit_cli.profiling.macs import site_costs
from skipdit_cli.recipe import published, runs
from skipdit_cli.sites import Layout, Site

B, S, T, D, H = 2, 3, 5, 8, 2  # batch, sequences, tokens, width, heads


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(D, 3 * D)

    def forward(self, x):
        qkv = self.qkv(x).reshape(-1, T, 3, H, D // H).permute(2, 0, 3, 1, 4)
        out = nn.functional.scaled_dot_product_attention(*qkv.unbind(0))
        return out.transpose(1, 2).reshape(x.shape)


class OtherNorm(nn.LayerNorm):
    """A subclass, which thop does not know."""


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(D, elementwise_affine=False)
        self.affine_norm = nn.LayerNorm(D)
        self.other_norm = OtherNorm(D)
        self.attn = Attention()
        self.mlp = nn.Linear(D, D)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(D, 6 * D))

    def forward(self, x, c):
        shift = self.adaLN_modulation(c)[:, :D].reshape(len(c), *[1] * (x.dim() - 2), D)
        return self.mlp(self.attn(self.other_norm(self.affine_norm(self.norm(x) + shift))))


class Toy(nn.Module):
    """One block and a convolution; its layer is a site that contains two others."""

    SITES = {"layer": "block", "attn.spatial": "block.attn", "mlp.spatial": "block.mlp"}

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(4, D, kernel_size=2, stride=2)
        self.block = Block()

    def layout(self):
        return Layout("toy", 1, ("attn.spatial", "mlp.spatial"))

    def forward(self, image, x, c):
        self.patches(image)
        return self.block(x, c)


def count(x_shape, *, sequences=None):
    """Official code would run the modulation once for each of the sequences."""
    with torch.device("meta"):
        inputs = {"image": torch.zeros(B, 4, 6, 6), "x": torch.zeros(x_shape)}
        model = Toy()
        official = {model.block.adaLN_modulation[1]: sequences} if sequences else None
        return site_costs(model, {**inputs, "c": torch.zeros(B, D)}, official=official)


CONV = B * D * 9 * 4 * 4  # 3 x 3 patches of 2 x 2 pixels and 4 channels
ADALN = B * D * 6 * D


def test_an_image_block_by_hand():
    costs = count((B, T, D))
    rows = B * T
    norms = 2 * rows * D + 4 * rows * D
    attention, mlp = rows * D * 3 * D, rows * D * D
    products = 2 * B * T * T * D  # two matrix products over all heads
    total = CONV + norms + attention + mlp + ADALN
    assert costs.total == Cost(total, total, 2 * (total - norms + products))
    assert costs.sites[Site("attn.spatial", 0)] == Cost(
        attention, attention, 2 * (attention + products)
    )
    assert costs.sites[Site("mlp.spatial", 0)] == Cost(mlp, mlp, 2 * mlp)
    assert costs.total - costs.sites[Site("layer", 0)] == Cost(CONV, CONV, 2 * CONV)


def test_a_video_block_counts_the_official_modulation_once_per_sequence():
    costs = count((B, S, T, D), sequences=S)
    one = count((B, T, D)).total
    executed = CONV + ADALN + S * (one.macs_executed - CONV - ADALN)
    assert costs.total.macs_executed == executed
    assert costs.total.macs_paper == executed + (S - 1) * ADALN
    layer = costs.sites[Site("layer", 0)]  # the modulation is inside it
    assert layer.macs_paper == layer.macs_executed + (S - 1) * ADALN
    assert costs.total.flops == 2 * (CONV + ADALN) + S * (one.flops - 2 * (CONV + ADALN))


def test_what_is_reused_is_subtracted_once():
    costs = count((B, T, D))
    layer, attention, mlp = costs.sites
    assert costs.inside == {attention: layer, mlp: layer}
    assert costs.step([], 1) == costs.total
    without = costs.total - costs.sites[attention] - costs.sites[mlp]
    assert costs.step([attention, mlp], 1) == without
    outside = Cost(CONV, CONV, 2 * CONV)
    assert costs.step([layer], 1) == outside
    assert costs.step([attention, layer, mlp], 1) == outside


def test_a_site_two_levels_inside_a_reused_one_is_not_subtracted():
    outer, middle, inner = (Site("layer", i) for i in range(3))
    costs = Costs(
        total=Cost(10, 10, 20),
        sites={outer: Cost(6, 6, 12), middle: Cost(4, 4, 8), inner: Cost(1, 1, 2)},
        inside={middle: outer, inner: middle},
    )
    assert costs.step([outer, inner], 1) == Cost(4, 4, 8)
    assert costs.step([middle, inner], 1) == Cost(6, 6, 12)


def test_counting_leaves_no_hooks_behind():
    with torch.device("meta"):
        model = Toy()
        shapes = {"image": (B, 4, 6, 6), "x": (B, T, D), "c": (B, D)}
        site_costs(model, {name: torch.zeros(shape) for name, shape in shapes.items()})
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


CELLS = [("taichi", "none", {"method": "Latte"}), ("taichi-skip", "none", {"method": "Skip-DiT"})]
CELLS += [
    ("taichi-skip", f"skip-cache(n={n})", {"method": "Skip-Cache", "n": str(n)})
    for n in range(2, 7)
]


@pytest.mark.parametrize(("model", "cache", "line"), CELLS)
def test_published_class_to_video_flops(model, cache, line):
    """All cells of Table 1 that need no other method: batch 3, unguided, t = 980, 960, ..., 0."""
    run = runs.make_run(model, cache, {"sampler": "ddim", "steps": "ddim50"})
    row = plan.plan(run, batch=3)
    expected = published.numbers("table1", line)["flops_t"]
    assert row.macs_paper / 1e12 == pytest.approx(expected, rel=5e-5)
    assert row.macs_executed < row.macs_paper


@pytest.mark.parametrize(
    ("model", "macs"),
    [("taichi", 5_572_695_048_192), ("ucf101", 5_572_695_048_192), ("dit-xl-2", 114_427_183_104)],
)
def test_one_full_step(model, macs):
    """Video: batch 3, the number thop gives on the official class; image: by the closed formula."""
    row = plan.plan(runs.make_run(model, "none", {"steps": 1, "guidance": None}))
    assert row.macs_paper * (3 if "dit" not in model else 1) == macs


@pytest.mark.parametrize(("model", "giga"), [("latte", 31745.055), ("hunyuan-dit", 10280.338)])
def test_one_full_step_on_a_text(model, giga):
    """Batch 2, as thop gives it: 32 caption tokens for Latte, 77 and 256 for HunyuanDiT."""
    row = plan.plan(runs.make_run(model, "none", {"steps": 1, "guidance": None}), batch=2)
    assert round(row.macs_paper / 1e9, 3) == giga


def test_the_official_video_model_looks_at_a_caption_once_per_frame():
    """Keys and values of 32 tokens in 28 layers of width 1152, for 16 frames instead of one."""
    row = plan.plan(runs.make_run("latte", "none", {"steps": 1, "guidance": None}))
    keys_and_values = 28 * 2 * 32 * 1152 * 1152
    assert row.macs_paper - row.macs_executed == 15 * keys_and_values
    row = plan.plan(runs.make_run("hunyuan-dit", "none", {"steps": 1, "guidance": None}))
    assert row.macs_paper == row.macs_executed


def test_the_image_model_by_formula():
    """DiT-XL/2: 28 blocks of width 1152 on 256 tokens, its adaLN on one row."""
    width, tokens = 1152, 256
    block = tokens * width * width * (3 + 1 + 4 + 4) + 6 * width * width + 2 * 2 * tokens * width
    final = 2 * width * width + 2 * tokens * width + tokens * width * 32
    embeddings = tokens * width * 16 + 256 * width + width * width
    row = plan.plan(runs.make_run("dit-xl-2", "none", {"steps": 1, "guidance": None}))
    assert row.macs_paper == row.macs_executed == 28 * block + final + embeddings
    norms = (28 * 2 + 1) * 2 * tokens * width
    attention = 28 * 2 * tokens * tokens * width
    assert row.flops == 2 * (row.macs_paper - norms + attention)
