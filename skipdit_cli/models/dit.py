"""DiT, class-to-image: DiT-XL/2 and its skip-branch version.

Source: facebookresearch/DiT `models.py`; OpenSparseLLMs/Skip-DiT `class-to-image/models.py`
(72609de). Layer j of the second half receives the output of layer depth-1-j.
"""

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
    sincos_2d,
    unpatchify,
)
from skipdit_cli.sites import Layout, Sites, kinds_of

VERSION = 2  # fused modulation and gates
VARIANTS = {
    "DiT-XL/2": {"hidden_size": 1152, "depth": 28, "num_heads": 16, "patch_size": 2},
    "DiT-digits/4": {
        "hidden_size": 72,
        "depth": 6,
        "num_heads": 4,
        "patch_size": 4,
        "in_channels": 1,
        "input_size": 16,
        "num_classes": 10,
    },
    "DiT-fashion/4": {
        "hidden_size": 96,
        "depth": 8,
        "num_heads": 6,
        "patch_size": 4,
        "in_channels": 1,
        "input_size": 32,
        "num_classes": 10,
    },
}
SITES: Sites = {
    "layer": "blocks.{i}",
    "attn.spatial": "blocks.{i}.attn",
    "mlp.spatial": "blocks.{i}.mlp",
}


class Block(nn.Module):
    """DiT block with adaLN-Zero, and its skip branch if it has one."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, *, skip: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn = Attention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))
        self.skip = SkipFusion(hidden_size) if skip else None

    def forward(self, x: Tensor, c: Tensor, skip: Tensor | None = None) -> Tensor:
        """x [B, T, D], c [B, D], skip like x, for a block that has a branch -> like x"""
        if self.skip is not None:
            x = self.skip(x, skip)
        modulation = self.adaLN_modulation(c)[:, None]  # [B, 1, 6 D]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=-1)
        x = self.attn(modulate(self.norm1(x), shift_a, scale_a), gate=gate_a, residual=x)
        return self.mlp(modulate(self.norm2(x), shift_m, scale_m), gate=gate_m, residual=x)


class DiT(ModelMixin, ConfigMixin):
    """Class-conditional image denoiser.

    Args:
        input_size: side of the (latent) image, in pixels of the latent.
        num_classes: number of classes; label `num_classes` is the null class of guidance.
        skip: build the long skip branches of Skip-DiT.
    """

    CHANNEL_DIM = 1
    GUIDED_CHANNELS = 3  # the official sampler guides three of the four latent channels
    SITES = SITES
    _supports_param_buffer_assignment = False  # diffusers would keep the file's dtype

    @register_to_config
    def __init__(
        self,
        input_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        learn_sigma: bool = True,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.x_embedder = PatchEmbed(in_channels, hidden_size, patch_size)
        self.t_embedder = TimestepEmbedder(hidden_size)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size)
        self.register_buffer("pos_embed", sincos_2d(hidden_size, input_size // patch_size)[None])
        self.blocks = nn.ModuleList(
            Block(hidden_size, num_heads, mlp_ratio, skip=skip and j >= depth // 2)
            for j in range(depth)
        )
        out_channels = in_channels * 2 if learn_sigma else in_channels
        self.final_layer = FinalLayer(hidden_size, patch_size, out_channels)
        initialize(self)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        class_labels: Tensor,
        *,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict noise (and variance) for images at original timesteps 0..999.

        Args:
            hidden_states: [B, C, H, W].
            timestep: [B].
            class_labels: [B] int64.
        Returns:
            sample [B, 2C, H, W] (noise, variance), or [B, C, H, W] without learn_sigma.
        """
        x = self.x_embedder(hidden_states) + self.pos_embed  # [B, T, D]
        c = self.t_embedder(timestep) + self.y_embedder(class_labels)  # [B, D]
        skips: list[Tensor] = []
        for block in self.blocks:
            if block.skip is not None:
                x = block(x, c, skips.pop())  # [B, T, D]
            else:
                x = block(x, c)
                if self.config.skip:
                    skips.append(x)
        x = self.final_layer(x, c)  # [B, T, p * p * out]
        sample = unpatchify(x, self.config.patch_size)  # [B, out, H, W]
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def layout(self) -> Layout:
        depth = self.config.depth
        skips = tuple((j, depth - 1 - j) for j in range(depth // 2, depth))
        return Layout("dit", depth, kinds_of(SITES), skips if self.config.skip else ())

    def inputs(self, batch_size: int, *, device: str = "cpu") -> dict[str, Tensor]:
        """Inputs of the right shapes, for counting and timing."""
        side, channels = self.config.input_size, self.config.in_channels
        return {
            "hidden_states": torch.zeros(batch_size, channels, side, side, device=device),
            "timestep": torch.zeros(batch_size, dtype=torch.int64, device=device),
            "class_labels": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }


MODEL = DiT


def convert(state: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """Official state dict -> ours: only the keys of skip branches change."""
    half = config["depth"] // 2
    return {rename_skip(key, layers="blocks", half=half): value for key, value in state.items()}
