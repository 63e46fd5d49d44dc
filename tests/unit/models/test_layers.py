"""The layers DiT and Latte share, on numbers small enough to work out."""

import math
import weakref

import pytest
import torch
from torch import nn

from skipdit_cli.models import _layers as layers
from skipdit_cli.models import dit, latte
from skipdit_cli.models.dit import DiT
from skipdit_cli.models.latte import Latte
from skipdit_cli.sites import Site, site_modules


def close(ours, expected):
    torch.testing.assert_close(ours, torch.tensor(expected), atol=1e-6, rtol=1e-6)


def test_position_table_of_a_line():
    """Size 4: frequencies 1 and 1/10000**(1/2) = 0.01; two sines, then two cosines."""
    sin, cos = math.sin, math.cos
    close(
        layers.sincos_1d(4, torch.tensor([0, 1, 7])),
        [
            [0.0, 0.0, 1.0, 1.0],
            [sin(1), sin(0.01), cos(1), cos(0.01)],
            [sin(7), sin(0.07), cos(7), cos(0.07)],
        ],
    )


def test_position_table_of_a_square_has_the_column_first():
    at = {position: layers.sincos_1d(4, torch.tensor([position]))[0] for position in (0, 1)}
    table = layers.sincos_2d(8, 2)
    for token, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert torch.equal(table[token], torch.cat([at[column], at[row]]))


def test_timestep_sinusoid():
    """Four frequencies, that is two: 1 and 10000**(-1/2) = 0.01; cosines come first here."""
    embedder, seen = layers.TimestepEmbedder(8, frequencies=4), []
    embedder.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert embedder(torch.tensor([0, 100])).shape == (2, 8)
    sin, cos = math.sin, math.cos
    close(seen[0], [[1.0, 1.0, 0.0, 0.0], [cos(100), cos(1), sin(100), sin(1)]])


def test_skip_fusion_by_hand():
    """[1, 3] joined with [5, 7]: mean 4, variance (9+1+1+9)/4 = 5, so [-3, -1, 1, 3] / sqrt(5)."""
    fusion = layers.SkipFusion(2).requires_grad_(False)
    fusion.norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    fusion.norm.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.5]))
    fusion.linear.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 1.0]]))
    fusion.linear.bias.copy_(torch.tensor([10.0, 20.0]))
    root = math.sqrt(5 + 1e-6)
    ours = fusion(torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0]))
    close(ours, [10 - 3 / root, 20 + (-2 + 12) / root + 0.5])
    swapped = fusion(torch.tensor([5.0, 7.0]), torch.tensor([1.0, 3.0]))
    assert not torch.allclose(ours, swapped)


def test_norms_add_a_millionth_to_the_variance():
    """Deviations of +-0.001 have a variance of 1e-6, so dividing by sqrt(2e-6) gives 0.707."""
    x = torch.tensor([1.001, 0.999]).repeat(2)
    block, final = latte.Block(4, 1, 4.0), layers.FinalLayer(4, 1, 1)
    for norm in (layers.SkipFusion(2).norm, block.norm1, block.norm2, final.norm_final):
        assert norm(x).tolist() == pytest.approx([0.707, -0.707] * 2, abs=1e-3)


def test_the_norm_of_a_skip_branch_runs_in_float32():
    fusion = layers.SkipFusion(16).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    x = (1 + 1e-2 * torch.randn(4, 32, generator=generator)).bfloat16()
    fusion.norm.weight.copy_(torch.randn(32, generator=generator))
    in_float32 = fusion.bfloat16().norm(x)
    norm = fusion.norm
    exact = nn.functional.layer_norm(x.float(), (32,), norm.weight.float(), norm.bias.float(), 1e-6)
    assert in_float32.dtype == torch.bfloat16
    assert torch.equal(in_float32, exact.bfloat16())


def test_a_fresh_skip_branch_passes_x_on():
    """Up to the norm: training of the branches starts from the vanilla model."""
    model = DiT(input_size=4, patch_size=2, in_channels=1, hidden_size=8, depth=2, num_heads=1,
                num_classes=3, skip=True)  # fmt: skip
    x, skip = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    normed = nn.functional.layer_norm(torch.cat([x, skip], dim=-1), (16,), eps=1e-6)[..., :8]
    torch.testing.assert_close(model.blocks[1].skip(x, skip), normed)


def test_modulation():
    x, shift, scale = torch.tensor([2.0, -3.0]), torch.tensor([1.0, 5.0]), torch.tensor([0.5, -1.0])
    assert layers.modulate(x, shift, scale).tolist() == [4.0, 5.0]  # 2*1.5+1, -3*0+5


def test_patches_are_cut_and_put_together_row_by_row():
    """A 4x4 image of two channels: token 1 is the upper right patch, channels vary fastest."""
    image = torch.arange(32.0).reshape(1, 2, 4, 4)  # channel 0: 0..15, channel 1: 16..31
    tokens = image.unfold(2, 2, 2).unfold(3, 2, 2)  # [1, C, rows, columns, 2, 2]
    tokens = tokens.permute(0, 2, 3, 4, 5, 1).reshape(1, 4, 8)
    assert tokens[0, 1].tolist() == [2, 18, 3, 19, 6, 22, 7, 23]
    assert torch.equal(layers.unpatchify(tokens, 2), image)
    clip = torch.stack([tokens, tokens + 100], dim=1)  # [1, F, T, 8]
    assert torch.equal(layers.unpatchify(clip, 2), torch.stack([image, image + 100], dim=1))

    embed = layers.PatchEmbed(2, 8, 2).requires_grad_(False)
    embed.proj.weight.copy_(torch.eye(8).reshape(8, 2, 2, 2))  # output k is element k: C, row, col
    embed.proj.bias.zero_()
    assert embed(image)[0, 1].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]


def test_attention_is_softmax_attention_per_head():
    attention = layers.Attention(4, 2)
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    query, key, value = attention.qkv(x).chunk(3, dim=-1)
    heads = []
    for part in (slice(0, 2), slice(2, 4)):
        scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(2)
        heads.append(scores.softmax(-1) @ value[..., part])
    expected = attention.proj(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(x), expected)
    torch.testing.assert_close(attention(x[:, None]), expected[:, None])  # [B, F, T, D]


@pytest.mark.parametrize(
    ("block", "shape"),
    [(dit.Block(8, 2, 4.0, skip=False), (2, 4, 8)), (latte.Block(8, 2, 4.0), (2, 3, 4, 8))],
)
def test_one_modulation_per_batch_element_is_broadcast(block, shape):
    """Image [B, T, D] and clip [B, F, T, D]: one conditioning per image or clip, for all frames."""
    nn.init.normal_(block.adaLN_modulation[1].weight, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    x, c = torch.randn(shape, generator=generator), torch.randn(2, 8, generator=generator)
    rows = []
    block.adaLN_modulation.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    together = block(x, c)
    assert [row.shape for row in rows] == [(2, 8)]
    apart = torch.cat([block(x[i : i + 1], c[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, apart)
    assert not torch.allclose(block(x, c.flip(0)), together)


def build(family, **changes):
    """A small network whose weights are all drawn."""
    arguments = {"input_size": 4, "patch_size": 2, "in_channels": 1, "hidden_size": 8}
    model = family(**{**arguments, "num_heads": 2, "num_classes": 5, **changes})
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model.requires_grad_(False).eval()


def test_a_fresh_network_predicts_zero():
    """adaLN-Zero: closed gates and a zero last layer."""
    model = DiT(input_size=4, in_channels=1, hidden_size=8, depth=2, num_heads=1, num_classes=3)
    out = model(torch.randn(2, 1, 4, 4), torch.tensor([3, 900]), torch.tensor([0, 3])).sample
    assert torch.equal(out, torch.zeros(2, 2, 4, 4))


@pytest.mark.parametrize(
    ("family", "changes", "shape"),
    [
        (DiT, {"depth": 4}, (6, 1, 4, 4)),
        (Latte, {"depth": 8, "num_frames": 3}, (6, 3, 1, 4, 4)),
    ],
)
def test_the_null_class_is_one_more_than_the_classes(family, changes, shape):
    """Labels 0 to 4 and the null class 5, each with an embedding of its own; 6 does not exist."""
    model = build(family, **changes)
    assert model.y_embedder.embedding_table.weight.shape == (6, 8)
    x = torch.randn(shape[1:], generator=torch.Generator().manual_seed(2)).expand(shape)
    t = torch.full((6,), 500)
    out = model(x, t, class_labels=torch.arange(6), return_dict=False)[0]
    assert len({tuple(sample.flatten().tolist()) for sample in out}) == 6
    channels = model.CHANNEL_DIM
    assert out.shape[channels] == 2 * shape[channels]
    with pytest.raises(IndexError):
        model(x[:1], t[:1], class_labels=torch.tensor([6]))


def test_an_unconditional_clip_model_takes_no_labels():
    model = build(Latte, depth=8, num_frames=3, num_classes=None)
    assert model.y_embedder is None
    assert not any(key.startswith("y_embedder") for key in model.state_dict())
    out = model(torch.randn(2, 3, 1, 4, 4), torch.tensor([0, 999])).sample
    assert out.shape == (2, 3, 2, 4, 4)


@pytest.mark.parametrize("learn_sigma", [True, False])
def test_output_channels(learn_sigma):
    model = build(DiT, depth=2, learn_sigma=learn_sigma)
    out = model(torch.randn(1, 1, 4, 4), torch.tensor([5]), torch.tensor([0])).sample
    assert out.shape == (1, 2 if learn_sigma else 1, 4, 4)


def test_which_layer_feeds_which():
    assert build(DiT, depth=4, skip=True).layout().skips == ((2, 1), (3, 0))
    assert build(Latte, depth=8, num_frames=2, skip=True).layout().skips == ((2, 1), (3, 0))
    assert build(DiT, depth=4).layout().skips == ()


@pytest.mark.parametrize(("to", "source"), [(2, 1), (3, 0)])
def test_the_skip_branch_carries_that_layer_s_output(to, source):
    model, outputs, skips = build(DiT, depth=4, skip=True), {}, {}
    model.blocks[source].register_forward_hook(lambda *a: outputs.update(out=a[-1]))
    model.blocks[to].skip.register_forward_pre_hook(lambda _, inputs: skips.update(got=inputs[1]))
    model(torch.randn(1, 1, 4, 4), torch.tensor([5]), torch.tensor([0]))
    assert skips["got"] is outputs["out"]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("family", "changes", "shape"),
    [
        (DiT, {"depth": 4}, (1, 1, 4, 4)),
        (Latte, {"depth": 8, "num_frames": 2}, (1, 2, 1, 4, 4)),
    ],
)
def test_the_first_layer_s_output_is_in_memory_at_the_last_one_only_for_a_skip(
    family, changes, shape, skip
):
    model, seen = build(family, **changes, skip=skip), {}
    first, last = (site_modules(model)[Site("layer", i)] for i in (0, 3))
    first.register_forward_hook(lambda *a: seen.update(output=weakref.ref(a[-1])))
    last.register_forward_pre_hook(lambda *_: seen.update(kept=seen["output"]() is not None))
    model(torch.randn(shape), torch.tensor([5]), torch.tensor([0]))
    assert seen["kept"] is skip
