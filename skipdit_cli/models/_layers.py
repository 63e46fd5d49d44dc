"""What DiT's and Latte's blocks are made of, and the skip branch that text-to-video Latte has too.

Source: facebookresearch/DiT `models.py`, Vchitect/Latte `models/latte.py`, and the skip branches of
OpenSparseLLMs/Skip-DiT (72609de). Shapes: B batch, T tokens, D hidden size; `...` stands for
nothing (images) or for one dimension of sequences (frames, or places along time).
"""

import math
import re
from functools import lru_cache

import torch
import torch.nn.functional as F
from diffusers.models.normalization import FP32LayerNorm
from torch import Tensor, nn

from skipdit_cli.sites import gated


class TimestepEmbedder(nn.Module):
    """Timestep -> sinusoid -> MLP. [B] -> [B, D]"""

    def __init__(self, hidden_size: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(
            nn.Linear(frequencies, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, timestep: Tensor) -> Tensor:
        sinusoid = timestep_sinusoid(timestep, self.frequencies)
        return self.mlp(sinusoid.to(next(self.mlp.parameters()).dtype))


class Sinusoid(nn.Module):
    """`timestep_sinusoid` where diffusers' networks have their `Timesteps`. [B] -> [B, size]"""

    def __init__(self, size: int = 256) -> None:
        super().__init__()
        self.size = size

    def forward(self, timestep: Tensor) -> Tensor:
        return timestep_sinusoid(timestep, self.size)


def timestep_sinusoid(timestep: Tensor, size: int) -> Tensor:
    """Cosines, then sines of a timestep, in float32. [B] -> [B, size]"""
    angles = timestep[:, None].float() * _frequencies(size // 2, timestep.device)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@torch.compiler.assume_constant_result
@lru_cache(maxsize=8)
def _frequencies(count: int, device: torch.device) -> Tensor:
    """1 to 1 / 10000, the last left out, each the same factor from the next. [count]

    Official order of operations; exp in float64, because the last bit of a float32 exp differs
    between processors and t = 999 magnifies it a thousandfold.
    """
    index = torch.arange(count, dtype=torch.float32, device="cpu")
    return (-math.log(10000) * index / count).double().exp().float().to(device)


class LabelEmbedder(nn.Module):
    """Class label -> embedding; label `num_classes` is the null class. [B] -> [B, D]"""

    def __init__(self, num_classes: int, hidden_size: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, hidden_size)

    def forward(self, labels: Tensor) -> Tensor:
        return self.embedding_table(labels)


class PatchEmbed(nn.Module):
    """Non-overlapping patches, row by row. [N, C, H, W] -> [N, T, D]"""

    def __init__(self, in_channels: int, hidden_size: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, hidden_size, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention over the last but one dimension. [B, ..., T, D] -> same

    With a `gate` and a `residual` it gives what `gated` makes of its output.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(
        self, x: Tensor, *, gate: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        *batch, tokens, hidden = x.shape
        qkv = self.qkv(x).reshape(-1, tokens, 3, self.num_heads, hidden // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each [N, heads, T, D / heads]
        x = F.scaled_dot_product_attention(query, key, value)
        x = self.proj(x.transpose(1, 2).reshape(*batch, tokens, hidden))
        return gated(x, gate, residual)


class Mlp(nn.Module):
    """Linear, tanh-approximated GELU, linear, then as in `Attention`. [..., D] -> same"""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, inner_size)
        self.fc2 = nn.Linear(inner_size, hidden_size)

    def forward(
        self, x: Tensor, *, gate: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        return gated(self.fc2(F.gelu(self.fc1(x), approximate="tanh")), gate, residual)


class FinalLayer(nn.Module):
    """Norm, modulation, projection to patches. [B, ..., T, D] -> [B, ..., T, p * p * out]"""

    def __init__(self, hidden_size: int, patch_size: int, out_channels: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 2 * hidden_size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = _broadcast(self.adaLN_modulation(c), x).chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class SkipFusion(nn.Module):
    """The long skip branch: Linear(LayerNorm(cat[x, skip])), in place of x. [..., D] -> same

    The norm runs in float32 whatever the dtype of the network (official code).
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.norm = FP32LayerNorm(2 * hidden_size, eps=1e-6)
        self.linear = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.linear(self.norm(torch.cat([x, skip], dim=-1)))


def rename_skip(key: str, *, layers: str, half: int) -> str:
    """The official key of a skip branch's norm or linear, moved into the layer that it feeds.

    Args:
        layers: the model's name for its list of layers.
        half: index of the first layer that has a skip branch.
    """
    return re.sub(
        r"^skip_(norm|linear)s\.(\d+)(?:\.linear)?\.",
        lambda m: f"{layers}.{half + int(m[2])}.skip.{m[1]}.",
        key,
    )


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN's scale and shift of a normed x; shapes broadcast."""
    return torch.addcmul(shift, x, 1 + scale)


def _broadcast(modulation: Tensor, x: Tensor) -> Tensor:
    """One modulation per batch element, for all its tokens: [B, K] -> [B, 1, ..., 1, K], as x."""
    return modulation.view(len(modulation), *[1] * (x.dim() - 2), -1)


def unpatchify(x: Tensor, patch_size: int) -> Tensor:
    """[..., T, p * p * C] -> [..., C, H, W] for a square image."""
    *batch, tokens, width = x.shape
    side, channels = math.isqrt(tokens), width // patch_size**2
    x = x.reshape(-1, side, side, patch_size, patch_size, channels)
    x = torch.einsum("nhwpqc->nchpwq", x)
    return x.reshape(*batch, channels, side * patch_size, side * patch_size)


def sincos_1d(size: int, positions: Tensor) -> Tensor:
    """Sinusoidal position table: sines then cosines. positions [N] -> [N, size]

    It is in torch's default dtype, which `from_pretrained` sets, as weights are.
    """
    omega = 1.0 / 10000 ** (torch.arange(size // 2, dtype=torch.float64) / (size / 2))
    angles = positions.double()[:, None] * omega
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(torch.get_default_dtype())


def sincos_2d(size: int, side: int) -> Tensor:
    """Position table of a square grid: column half, then row half. -> [side * side, size]"""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    halves = [sincos_1d(size // 2, axis.flatten()) for axis in (columns, rows)]
    return torch.cat(halves, dim=1)


def initialize(model: nn.Module) -> None:
    """Xavier linears, zero gates and final projection, as DiT; embeddings of unit variance.

    Skip branches begin with passing x on and ignoring the skip.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, PatchEmbed):
            nn.init.xavier_uniform_(module.proj.weight.view(len(module.proj.weight), -1))
        elif isinstance(module, LabelEmbedder):  # DiT's 0.02 hides the class for many steps
            nn.init.normal_(module.embedding_table.weight)
    for name, parameter in model.named_parameters():
        if name.endswith(("adaLN_modulation.1.weight", "x_embedder.proj.bias")):
            nn.init.zeros_(parameter)
    for module in model.modules():
        if isinstance(module, FinalLayer):
            nn.init.zeros_(module.linear.weight)
        if isinstance(module, SkipFusion):  # pass x through: a vanilla model stays near itself
            nn.init.eye_(module.linear.weight)
