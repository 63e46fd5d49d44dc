"""Latte, class-to-video: spatial and temporal blocks in turn, with and without skip branches.

Source: Vchitect/Latte `models/latte.py`; OpenSparseLLMs/Skip-DiT `class-to-video/models/latte.py`
(72609de). A layer is a pair: one spatial block (attention within a frame) and one temporal block
(attention along time). Pair p of the second half receives the output of pair pairs-1-p, before its
spatial block.
"""

import re
from collections.abc import Mapping

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from skipdit_cli.models._layers import (
    Attention,
    FinalLayer,
    LabelEmbedder,
    Mlp,
    PatchEmbed,
    SkipFusion,
    TimestepEmbedder,
    initialize,
    modulate,
    rename_skip,
    sincos_1d,
    sincos_2d,
    unpatchify,
)
from skipdit_cli.sites import Layout, Sites, kinds_of

VERSION = 2  # fused modulation and gates
VARIANTS = {
    "Latte-XL/2": {"hidden_size": 1152, "depth": 28, "num_heads": 16, "patch_size": 2},
    "Latte-digits/4": {
        "hidden_size": 56,
        "depth": 12,
        "num_heads": 4,
        "patch_size": 4,
        "in_channels": 1,
        "input_size": 16,
        "num_frames": 8,
        "num_classes": 10,
    },
}
SITES: Sites = {
    "layer": "layers.{i}",
    "attn.spatial": "layers.{i}.spatial.attn",
    "mlp.spatial": "layers.{i}.spatial.mlp",
    "attn.temporal": "layers.{i}.temporal.attn",
    "mlp.temporal": "layers.{i}.temporal.mlp",
}


class Block(nn.Module):
    """DiT block with adaLN-Zero over sequences: the tokens of a frame, or the frames of a place.

    The six modulation vectors are computed once per clip and broadcast over sequences and tokens;
    the official code computes them again for every frame and every place.
    """

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x [B, sequences, tokens, D], c [B, D] -> like x"""
        modulation = self.adaLN_modulation(c)[:, None, None]  # [B, 1, 1, 6 D]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)
        x = self.attn(modulate(self.norm1(x), shift_a, scale_a), gate=gate_a, residual=x)
        return self.mlp(modulate(self.norm2(x), shift_m, scale_m), gate=gate_m, residual=x)


class Pair(nn.Module):
    """A spatial and a temporal block, with their skip branch if they have one."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, skip: bool) -> None:
        super().__init__()
        self.skip = SkipFusion(hidden_size) if skip else None
        self.spatial = Block(hidden_size, num_heads, mlp_ratio)
        self.temporal = Block(hidden_size, num_heads, mlp_ratio)

    def forward(
        self,
        x: Tensor,
        c: Tensor,
        skip: Tensor | None = None,
        temporal_embedding: Tensor | None = None,
        *,
        temporal: bool = True,
    ) -> Tensor:
        """x [B, F, T, D], c [B, D], skip like x, temporal_embedding [1, F, D] -> like x

        Args:
            temporal: whether to run the temporal block.
        """
        if self.skip is not None:
            x = self.skip(x, skip)
        x = self.spatial(x, c)
        if not temporal:
            return x
        x = x.transpose(1, 2)  # [B, T, F, D]
        if temporal_embedding is not None:
            x = x + temporal_embedding
        x = self.temporal(x, c)
        return x.transpose(1, 2)


class Latte(ModelMixin, ConfigMixin):
    """Video denoiser, unconditional (`num_classes=None`) or class-conditional.

    Args:
        input_size: side of a (latent) frame, in pixels of the latent.
        num_frames: frames of a clip; inputs must have as many.
        depth: number of blocks, two per layer.
        num_classes: number of classes or None; label `num_classes` is the null class of guidance.
        skip: build the long skip branches of Skip-DiT.
    """

    CHANNEL_DIM = 2
    GUIDED_CHANNELS = 4
    SITES = SITES
    _supports_param_buffer_assignment = False  # diffusers would keep the file's dtype

    @register_to_config
    def __init__(
        self,
        input_size: int = 32,
        num_frames: int = 16,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_classes: int | None = None,
        learn_sigma: bool = True,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.x_embedder = PatchEmbed(in_channels, hidden_size, patch_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size) if num_classes else None
        self.register_buffer("pos_embed", sincos_2d(hidden_size, input_size // patch_size)[None])
        self.register_buffer("temp_embed", sincos_1d(hidden_size, torch.arange(num_frames))[None])
        pairs = depth // 2
        self.layers = nn.ModuleList(
            Pair(hidden_size, num_heads, mlp_ratio, skip=skip and p >= pairs // 2)
            for p in range(pairs)
        )
        out_channels = in_channels * 2 if learn_sigma else in_channels
        self.final_layer = FinalLayer(hidden_size, patch_size, out_channels)
        initialize(self)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        class_labels: Tensor | None = None,
        *,
        enable_temporal_attentions: bool = True,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict noise (and variance) for clips at original timesteps 0..999.

        Args:
            hidden_states: [B, F, C, H, W].
            timestep: [B].
            class_labels: [B] int64 for a class-conditional model.
            enable_temporal_attentions: False leaves the temporal blocks out: frames are images.
        Returns:
            sample [B, F, 2C, H, W] (noise, variance), or [B, F, C, H, W] without learn_sigma.
        """
        frames = hidden_states.flatten(0, 1)  # [B * F, C, H, W]
        x = self.x_embedder(frames) + self.pos_embed  # [B * F, T, D]
        x = x.unflatten(0, hidden_states.shape[:2])  # [B, F, T, D]
        c = self.t_embedder(timestep)  # [B, D]
        if self.y_embedder is not None:
            c = c + self.y_embedder(class_labels)
        images = {} if enable_temporal_attentions else {"temporal": False}
        skips: list[Tensor] = []
        for p, layer in enumerate(self.layers):
            # the place of a frame in time is added once, before the first temporal block
            temporal_embedding = self.temp_embed if p == 0 else None
            skip = skips.pop() if layer.skip is not None else None
            x = layer(x, c, skip, temporal_embedding, **images)  # [B, F, T, D]
            if layer.skip is None and self.config.skip:
                skips.append(x)
        x = self.final_layer(x, c)  # [B, F, T, p * p * out]
        sample = unpatchify(x, self.config.patch_size)  # [B, F, out, H, W]
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def layout(self) -> Layout:
        pairs = self.config.depth // 2
        skips = tuple((p, pairs - 1 - p) for p in range(pairs // 2, pairs))
        return Layout("latte", pairs, kinds_of(SITES), skips if self.config.skip else ())

    def inputs(self, batch_size: int, *, device: str = "cpu") -> dict[str, Tensor]:
        """Inputs of the right shapes, for counting and timing."""
        side, channels = self.config.input_size, self.config.in_channels
        shape = batch_size, self.config.num_frames, channels, side, side
        tensors = {
            "hidden_states": torch.zeros(shape, device=device),
            "timestep": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }
        if self.y_embedder is not None:
            tensors["class_labels"] = torch.zeros(batch_size, dtype=torch.int64, device=device)
        return tensors


MODEL = Latte


def official_calls(model: Latte) -> dict[nn.Module, int]:
    """Modules that the official code runs more often than this one does, and how often."""
    frames, places = model.config.num_frames, model.pos_embed.shape[1]
    calls = {model.final_layer.adaLN_modulation[-1]: frames}
    for pair in model.modules():
        if isinstance(pair, Pair):
            calls[pair.spatial.adaLN_modulation[-1]] = frames
            calls[pair.temporal.adaLN_modulation[-1]] = places
    return calls


def convert(state: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """Official state dict -> ours: only keys change."""
    return {_rename(key, half=config["depth"] // 4): value for key, value in state.items()}


def _rename(key: str, *, half: int) -> str:
    """Blocks 2p and 2p+1 and a skip branch become layer p."""
    key = re.sub(
        r"^blocks\.(\d+)\.",
        lambda m: f"layers.{int(m[1]) // 2}.{('spatial', 'temporal')[int(m[1]) % 2]}.",
        key,
    )
    return rename_skip(key, layers="layers", half=half)
