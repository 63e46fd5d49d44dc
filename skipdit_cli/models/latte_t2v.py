"""Latte, text-to-video: spatial blocks with text and temporal blocks in turn, skips or none.

Source: diffusers `LatteTransformer3DModel`, whose blocks these are; OpenSparseLLMs/Skip-DiT
`text-to-video/models/latte_t2v_skip_cache.py` (72609de). A layer is a pair: one spatial block
(attention within a frame, then to the caption) and one temporal block (attention along time). Layer
i of the second half receives the output of layer L-1-i, before its spatial block. Attention and MLP
are in `_attention.py`.
"""

import functools
import re
import warnings
from collections.abc import Mapping

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import (
    PatchEmbed,
    PixArtAlphaTextProjection,
    get_1d_sincos_pos_embed_from_grid,
    get_2d_sincos_pos_embed,
)
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import AdaLayerNormSingle
from torch import Tensor, nn

from skipdit_cli.errors import MissingAssetError
from skipdit_cli.models._attention import CrossAttention, Mlp, SelfAttention
from skipdit_cli.models._layers import Sinusoid, SkipFusion, modulate, rename_skip
from skipdit_cli.sites import Layout, Sites, kinds_of

VERSION = 3  # captions are cleaned; fused modulation and gates
MASK_BIAS = -10_000.0  # added to the attention scores of masked tokens (official code)
MOST_TOKENS = 120  # of a caption
INPUT_TOKENS = 32  # of a caption, where only the cost matters (the paper's profile)
VARIANTS = {
    "LatteT2V-XL/2": {
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "num_layers": 28,
        "sample_size": 64,
        "caption_channels": 4096,
    },
    "LatteT2V-digits/4": {
        "num_attention_heads": 4,
        "attention_head_dim": 16,
        "num_layers": 6,
        "patch_size": 4,
        "in_channels": 1,
        "out_channels": 2,
        "sample_size": 16,
        "video_length": 8,
        "caption_channels": 32,
    },
}
SITES: Sites = {
    "layer": "layers.{i}",
    "attn.spatial": "layers.{i}.spatial.attn1",
    "attn.cross": "layers.{i}.spatial.attn2",
    "mlp.spatial": "layers.{i}.spatial.ff",
    "attn.temporal": "layers.{i}.temporal.attn1",
    "mlp.temporal": "layers.{i}.temporal.ff",
}


class Block(nn.Module):
    """diffusers' BasicTransformerBlock (`ada_norm_single`), its gates where a cache sees them."""

    def __init__(
        self, hidden_size: int, num_heads: int, *, cross_attention_dim: int | None
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn1 = SelfAttention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn2 = None
        if cross_attention_dim is not None:
            self.attn2 = CrossAttention(hidden_size, num_heads, cross_attention_dim)
        self.ff = Mlp(hidden_size)
        self.scale_shift_table = nn.Parameter(torch.randn(6, hidden_size) / hidden_size**0.5)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        caption: Tensor | None = None,
        caption_bias: Tensor | None = None,
    ) -> Tensor:
        """x [B, sequences, T, D] -> like x

        Args:
            modulation: [B, 6 D], the same for all sequences; the official code repeats it for each.
            caption: [B, L, D]. caption_bias: [B, 1, 1, L], added to attention scores.
        """
        table = self.scale_shift_table + modulation.unflatten(1, (6, -1))  # [B, 6, D]
        table = table[:, :, None, None]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = table.unbind(1)  # [B, 1, 1, D]
        x = self.attn1(modulate(self.norm1(x), shift_a, scale_a), gate=gate_a, residual=x)
        if self.attn2 is not None:  # neither normed nor gated
            x = x + self.attn2(x, caption, caption_bias)
        return self.ff(modulate(self.norm2(x), shift_m, scale_m), gate=gate_m, residual=x)


class Layer(nn.Module):
    """A spatial and a temporal block, with their skip branch if they have one."""

    def __init__(
        self, hidden_size: int, num_heads: int, *, cross_attention_dim: int, skip: bool
    ) -> None:
        super().__init__()
        self.skip = SkipFusion(hidden_size) if skip else None
        self.spatial = Block(hidden_size, num_heads, cross_attention_dim=cross_attention_dim)
        self.temporal = Block(hidden_size, num_heads, cross_attention_dim=None)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        caption: Tensor,
        caption_bias: Tensor | None,
        skip: Tensor | None = None,
        *,
        temporal_embedding: Tensor | None = None,
        temporal: bool = True,
    ) -> Tensor:
        """x [B, F, T, D], skip like x -> like x

        Args:
            modulation: [B, 6 D].
            caption: [B, L, D]. caption_bias: [B, 1, 1, L], added to attention scores.
            temporal_embedding: [F, D]. temporal: whether to run the temporal block.
        """
        if self.skip is not None:
            x = self.skip(x, skip)
        x = self.spatial(x, modulation, caption, caption_bias)
        if not temporal:
            return x
        x = x.transpose(1, 2)  # [B, T, F, D]
        if temporal_embedding is not None:
            x = x + temporal_embedding
        return self.temporal(x, modulation).transpose(1, 2)


class LatteT2V(ModelMixin, ConfigMixin):
    """Text-to-video denoiser; arguments are those of diffusers' LatteTransformer3DModel.

    Args:
        sample_size: side of a latent frame. video_length: frames of a clip.
        caption_channels: width of the text encoder's output.
        cross_attention_dim: width of the projected caption; None is the hidden size.
        skip: build the long skip branches of Skip-DiT.
    """

    CHANNEL_DIM = 1
    GUIDED_CHANNELS = 8  # the variance as well (official pipeline)
    SITES = SITES
    _supports_param_buffer_assignment = False  # diffusers would keep the file's dtype

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 16,
        attention_head_dim: int = 72,
        in_channels: int = 4,
        out_channels: int = 8,
        num_layers: int = 28,
        cross_attention_dim: int | None = None,
        sample_size: int = 64,
        patch_size: int = 2,
        caption_channels: int = 4096,
        video_length: int = 16,
        skip: bool = False,
    ) -> None:
        super().__init__()
        hidden_size = num_attention_heads * attention_head_dim
        self.pos_embed = PatchEmbed(
            patch_size=patch_size,
            in_channels=in_channels,
            embed_dim=hidden_size,
            pos_embed_type=None,
        )
        self.adaln_single = AdaLayerNormSingle(hidden_size, use_additional_conditions=False)
        self.adaln_single.emb.time_proj = Sinusoid()  # type: ignore[assignment]
        self.caption_projection = PixArtAlphaTextProjection(caption_channels, hidden_size)
        self.layers = nn.ModuleList(
            Layer(
                hidden_size,
                num_attention_heads,
                cross_attention_dim=cross_attention_dim or hidden_size,
                skip=skip and i >= num_layers // 2,
            )
            for i in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.scale_shift_table = nn.Parameter(torch.randn(2, hidden_size) / hidden_size**0.5)
        self.proj_out = nn.Linear(hidden_size, patch_size * patch_size * out_channels)
        self._initialize()

    def _initialize(self) -> None:
        """As PixArt: the caption is added by and by, and the first prediction is zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.adaln_single.linear.weight, std=0.02)
        nn.init.zeros_(self.proj_out.weight)
        for name, parameter in self.named_parameters():
            if name.endswith("attn2.to_out.0.weight"):
                nn.init.zeros_(parameter)
            elif name.endswith("skip.linear.weight"):
                nn.init.eye_(parameter)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor | None = None,
        enable_temporal_attentions: bool = True,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict noise (and variance) for clips at original timesteps 0..999.

        Args:
            hidden_states: [B, C, F, H, W].
            timestep: [B].
            encoder_hidden_states: caption from the text encoder, [B, L, caption_channels].
            encoder_attention_mask: 1 keeps a token, 0 drops it; [B, L] or [B, 1, L].
            enable_temporal_attentions: False leaves the temporal blocks out.
        Returns:
            sample [B, out_channels, F, H, W].
        """
        batch, _, frames, height, width = hidden_states.shape
        patch = self.config.patch_size
        images = hidden_states.transpose(1, 2).flatten(0, 1)  # [B * F, C, H, W]
        grid = height // patch, width // patch
        base = self.config.sample_size
        x = self.pos_embed(images)  # [B * F, T, D]
        x = x + _spatial_positions(
            x.shape[-1], grid, base // patch, max(base // 64, 1), x.device, x.dtype
        )
        x = x.unflatten(0, (batch, frames))  # [B, F, T, D]
        modulation, embedded = self.adaln_single(
            timestep, batch_size=batch, hidden_dtype=hidden_states.dtype
        )  # [B, 6 D], [B, D]
        caption = self.caption_projection(encoder_hidden_states)  # [B, L, D]
        bias = None
        if encoder_attention_mask is not None:
            mask = encoder_attention_mask.to(x.dtype)
            bias = (1 - mask.reshape(batch, 1, 1, -1)) * MASK_BIAS  # [B, 1, 1, L]
        temporal_embedding = (
            _temporal_positions(x.shape[-1], frames, x.device, x.dtype) if frames > 1 else None
        )
        skips: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            skip = skips.pop() if layer.skip is not None else None
            x = layer(
                x,
                modulation,
                caption,
                bias,
                skip,
                # the place of a frame in time is added once, before the first temporal block
                temporal_embedding=temporal_embedding if i == 0 else None,
                temporal=enable_temporal_attentions,
            )  # [B, F, T, D]
            if self.config.skip and layer.skip is None:
                skips.append(x)
        shift, scale = (self.scale_shift_table + embedded[:, None]).chunk(2, dim=1)  # [B, 1, D]
        x = self.proj_out(modulate(self.norm_out(x), shift[:, None], scale[:, None]))
        x = x.unflatten(2, grid)
        x = x.unflatten(-1, (patch, patch, self.config.out_channels))
        sample = torch.einsum("bfhwpqc->bcfhpwq", x)
        sample = sample.reshape(batch, self.config.out_channels, frames, height, width)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def layout(self) -> Layout:
        depth = self.config.num_layers
        skips = tuple((i, depth - 1 - i) for i in range(depth // 2, depth))
        return Layout("latte_t2v", depth, kinds_of(SITES), skips if self.config.skip else ())

    def inputs(self, batch_size: int, *, device: str = "cpu") -> dict[str, Tensor]:
        """Inputs of the right shapes, for counting and timing."""
        config = self.config
        side = config.sample_size
        shape = batch_size, config.in_channels, config.video_length, side, side
        dtype = next(self.parameters()).dtype
        return {
            "hidden_states": torch.zeros(shape, device=device, dtype=dtype),
            "timestep": torch.zeros(batch_size, dtype=torch.int64, device=device),
            "encoder_hidden_states": torch.zeros(
                batch_size, INPUT_TOKENS, config.caption_channels, device=device, dtype=dtype
            ),
        }


MODEL = LatteT2V


def official_calls(model: LatteT2V) -> dict[nn.Module, int]:
    """Modules that the official code runs more often than this one does, and how often."""
    caption = [
        m for name, m in model.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))
    ]
    return dict.fromkeys(caption, model.config.video_length)


@torch.compiler.assume_constant_result
@functools.cache
def _spatial_positions(
    hidden_size: int,
    grid: tuple[int, int],
    base: int,
    scale: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Sinusoidal table of a grid of patches, [T, D]; `base` is the side that was trained."""
    table = get_2d_sincos_pos_embed(
        hidden_size, grid, base_size=base, interpolation_scale=scale, device=torch.device("cpu")
    )
    return table.float().to(device, dtype)


@torch.compiler.assume_constant_result
@functools.cache
def _temporal_positions(
    hidden_size: int, frames: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Sinusoidal table of the places in time, [F, D]."""
    places = torch.arange(frames, device="cpu").unsqueeze(1)
    table = get_1d_sincos_pos_embed_from_grid(hidden_size, places)
    return table.float().to(device, dtype)


def convert(state: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """Official state dict, or that of diffusers' LatteTransformer3DModel -> ours."""
    half = config["num_layers"] // 2
    renamed = {}
    for key, value in state.items():
        if key == "caption_projection.y_embedding":  # a buffer that no forward reads
            continue
        key = re.sub(r"^transformer_blocks\.(\d+)\.", r"layers.\1.spatial.", key)
        key = re.sub(r"^temporal_transformer_blocks\.(\d+)\.", r"layers.\1.temporal.", key)
        renamed[rename_skip(key, layers="layers", half=half)] = value
    return renamed


def tokens(arguments: Mapping) -> tuple[int]:
    """How many tokens the text encoder gives (official pipeline)."""
    return (MOST_TOKENS,)


def clean(prompt: str) -> str:
    """A prompt as the tokenizer gets it, cleaned by the official pipeline, which diffusers has.

    Raises:
        MissingAssetError: packages that clean are not here, and diffusers would leave it undone.
    """
    from diffusers.pipelines.latte import pipeline_latte

    if not (pipeline_latte.is_bs4_available() and pipeline_latte.is_ftfy_available()):
        raise MissingAssetError(
            "captions cannot be cleaned without beautifulsoup4 and ftfy",
            fix="run `pip install beautifulsoup4 ftfy`",
        )
    pipeline = object.__new__(pipeline_latte.LattePipeline)  # what it cleans with is of the class
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of beautifulsoup4, that a caption is hardly HTML
        return pipeline._text_preprocessing(prompt, clean_caption=True)[0]


def condition(encoded: Mapping[str, Tensor], null: Mapping[str, Tensor]) -> tuple[dict, dict]:
    """Encoder outputs of a prompt and a negative one -> conditions of both halves of guidance.

    The official pipeline cuts both to the number of tokens of the prompt and masks nothing, so the
    null half may see padding.
    """
    mask = encoded["mask"][encoded["mask"].bool()]
    halves = (states["states"][: len(mask)] for states in (encoded, null))
    first, second = (
        {"encoder_hidden_states": half, "encoder_attention_mask": mask} for half in halves
    )
    return first, second
