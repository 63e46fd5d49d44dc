"""HunyuanDiT v1.2, text-to-image: cross-attention to two texts, rotary positions, native skips.

Source: diffusers `HunyuanDiT2DModel`, which this is; Tencent/HunyuanDiT; OpenSparseLLMs/Skip-DiT
`text-to-image` (72609de). What the network computes, by the names of its modules:

1. x = pos_embed(latents): patches, row by row, [B, T, D], without a table of positions.
2. c = time_extra_emb, [B, D]: the sinusoid of the timestep through an MLP, plus the second text,
   which attention pools to one vector (`pooler`; padding has a part in it), through another.
3. text = the first text and text_embedder (an MLP) of the second, one after the other,
   [B, text_len + text_len_t5, C]; padding is replaced by text_embedding_padding, nothing is masked.
4. Every block of `blocks`, from x to x, [B, T, D]:
     x = skip_linear(skip_norm(cat[x, skip]))   where it has a skip branch
     x = x + attn1(norm1(x) + linear(silu(c)))  queries and keys normed, then rotated
     x = x + attn2(norm2(x), text)              the same, but keys are not rotated
     x = x + ff(norm3(x))                       linear, tanh-approximated GELU, linear
   There are no gates, and c shifts nothing but the input of attn1. Block i > depth/2 receives the
   output of block depth-1-i: for depth 40 that is 21 from 18 to 39 from 0, and blocks 19 and 20
   have no part.
5. proj_out(norm_out(x, c)): norm, scale and shift by c, linear to patches [B, T, p * p * 2C], which
   are put together to [B, 2C, H, W], velocity and variance.

All norms run in float32 but those of queries and keys and the last one. The positions of 4 are
those of `rope`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.hunyuan_transformer_2d import HunyuanDiT2DModel
from torch import Tensor, nn

from skipdit_cli.models._layers import Sinusoid
from skipdit_cli.sites import Layout, Sites, kinds_of

VERSION = 3  # prompts are stripped; the sinusoid is made of float64 frequencies
VARIANTS = {
    "HunyuanDiT-g/2": {
        "num_attention_heads": 16,
        "attention_head_dim": 88,
        "hidden_size": 1408,
        "num_layers": 40,
        "patch_size": 2,
        "in_channels": 4,
        "sample_size": 128,
        "mlp_ratio": 4.3637,
        "cross_attention_dim": 1024,
        "cross_attention_dim_t5": 2048,
        "pooled_projection_dim": 1024,
        "text_len": 77,
        "text_len_t5": 256,
    },
    "HunyuanDiT-digits/4": {
        "num_attention_heads": 5,
        "attention_head_dim": 16,
        "hidden_size": 80,
        "num_layers": 8,
        "patch_size": 4,
        "in_channels": 1,
        "sample_size": 16,
        "mlp_ratio": 4.0,
        "cross_attention_dim": 32,
        "cross_attention_dim_t5": 32,
        "pooled_projection_dim": 64,
        "text_len": 12,
        "text_len_t5": 12,
    },
}
SITES: Sites = {
    "layer": "blocks.{i}",
    "attn.spatial": "blocks.{i}.attn1",
    "attn.cross": "blocks.{i}.attn2",
    "mlp.spatial": "blocks.{i}.ff",
}


class HunyuanDiT(HunyuanDiT2DModel):
    """Text-to-image denoiser; arguments, keys and files are those of diffusers' class.

    Args:
        sample_size: side of the latent image that `inputs` has; others work as well.
        hidden_size: num_attention_heads * attention_head_dim.
        cross_attention_dim: width of the first (CLIP) text.
        text_len: its tokens.
        cross_attention_dim_t5: width of the second (T5) text; its pooler has 8 heads.
        text_len_t5: its tokens.
        pooled_projection_dim: width of the pooled second text.
    """

    CHANNEL_DIM = 1
    GUIDED_CHANNELS = 4  # the official pipeline drops the variance before guidance
    SITES = SITES
    _supports_param_buffer_assignment = False  # diffusers would keep the file's dtype

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 16,
        attention_head_dim: int = 88,
        in_channels: int = 4,
        patch_size: int = 2,
        activation_fn: str = "gelu-approximate",
        sample_size: int = 128,
        hidden_size: int = 1408,
        num_layers: int = 40,
        mlp_ratio: float = 4.3637,
        learn_sigma: bool = True,
        cross_attention_dim: int = 1024,
        norm_type: str = "layer_norm",
        cross_attention_dim_t5: int = 2048,
        pooled_projection_dim: int = 1024,
        text_len: int = 77,
        text_len_t5: int = 256,
        use_style_cond_and_image_meta_size: bool = False,
    ) -> None:
        super().__init__(
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            patch_size=patch_size,
            activation_fn=activation_fn,
            sample_size=sample_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            mlp_ratio=mlp_ratio,
            learn_sigma=learn_sigma,
            cross_attention_dim=cross_attention_dim,
            norm_type=norm_type,
            cross_attention_dim_t5=cross_attention_dim_t5,
            pooled_projection_dim=pooled_projection_dim,
            text_len=text_len,
            text_len_t5=text_len_t5,
            use_style_cond_and_image_meta_size=use_style_cond_and_image_meta_size,
        )
        self.time_extra_emb.time_proj = Sinusoid()  # type: ignore[assignment]
        # in bfloat16 the timestep itself would be rounded, 983 to 984: only its sinusoid may be
        self.time_extra_emb.timestep_embedder.register_forward_pre_hook(_to_own_dtype)
        self._initialize()

    def _initialize(self) -> None:
        """Xavier linears, zero modulation and final projection; skips are ignored at first."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        patches = self.pos_embed.proj.weight
        nn.init.xavier_uniform_(patches.view(len(patches), -1))
        nn.init.normal_(self.text_embedding_padding, std=0.02)
        nn.init.zeros_(self.norm_out.linear.weight)
        nn.init.zeros_(self.proj_out.weight)
        for name, parameter in self.named_parameters():
            if name.endswith("norm1.linear.weight") or name == "pos_embed.proj.bias":
                nn.init.zeros_(parameter)
            elif name.endswith("skip_linear.weight"):
                nn.init.eye_(parameter)

    def forward(  # type: ignore[override]  # diffusers' has ControlNet's samples as well
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        text_embedding_mask: Tensor,
        encoder_hidden_states_t5: Tensor,
        text_embedding_mask_t5: Tensor,
        image_meta_size: Tensor | None = None,
        style: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        *,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predict velocity (and variance) for images at original timesteps 0..999.

        Args:
            hidden_states: [B, C, H, W].
            timestep: [B], of any dtype.
            encoder_hidden_states: [B, text_len, cross_attention_dim].
            text_embedding_mask: [B, text_len], 1 for tokens; padding takes a learned embedding.
            encoder_hidden_states_t5: [B, text_len_t5, cross_attention_dim_t5], of the second text.
            text_embedding_mask_t5: [B, text_len_t5], as of the first.
            image_meta_size: passed by diffusers' pipeline for v1.1; not used here.
            style: the same.
            image_rotary_emb: (cos, sin), [T, head size] each; None takes the official positions.
        Returns:
            sample [B, 2C, H, W] (velocity, variance), or [B, C, H, W] without learn_sigma.
        """
        config = self.config
        if image_rotary_emb is None:
            height, width = (side // config.patch_size for side in hidden_states.shape[-2:])
            image_rotary_emb = rope(
                height,
                width,
                config.attention_head_dim,
                base=512 // 8 // config.patch_size,
                device=hidden_states.device,
            )
        return super().forward(
            hidden_states,
            timestep.float(),  # diffusers gives its dtype to the sinusoid
            encoder_hidden_states,
            text_embedding_mask,
            encoder_hidden_states_t5,
            text_embedding_mask_t5,
            image_meta_size=image_meta_size,
            style=style,
            image_rotary_emb=image_rotary_emb,
            return_dict=return_dict,
        )

    def layout(self) -> Layout:
        depth = self.config.num_layers
        skips = tuple((i, depth - 1 - i) for i in range(depth // 2 + 1, depth))
        return Layout("hunyuan_dit", depth, kinds_of(SITES), skips)

    def inputs(self, batch_size: int, *, device: str = "cpu") -> dict[str, Tensor]:
        """Inputs of the right shapes, for counting and timing; texts fill all their tokens."""
        config, dtype = self.config, self.proj_out.weight.dtype

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch_size, *shape, device=device, dtype=dtype)

        def ones(tokens: int) -> Tensor:
            return torch.ones(batch_size, tokens, device=device, dtype=torch.int64)

        return {
            "hidden_states": zeros(config.in_channels, config.sample_size, config.sample_size),
            "timestep": torch.zeros(batch_size, device=device, dtype=torch.int64),
            "encoder_hidden_states": zeros(config.text_len, config.cross_attention_dim),
            "text_embedding_mask": ones(config.text_len),
            "encoder_hidden_states_t5": zeros(config.text_len_t5, config.cross_attention_dim_t5),
            "text_embedding_mask_t5": ones(config.text_len_t5),
        }


MODEL = HunyuanDiT


def _to_own_dtype(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return args[0].to(next(module.parameters()).dtype), *args[1:]


@torch.compiler.assume_constant_result
@lru_cache(maxsize=8)
def rope(
    height: int,
    width: int,
    head_size: int,
    *,
    base: int = 32,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Rotary positions of a grid of patches, as the official code places them.

    The grid is stretched over the largest centred region of its aspect ratio in a square of `base`
    patches (512 pixels). diffusers' own function differs for grids that are not square: there the
    start of the region enters the step.

    Args:
        height: in patches.
        width: in patches.
        head_size: a multiple of 4; column position in the first half, row position in the second.
    Returns:
        (cos, sin), float32 [height * width, head_size] each. Shared between calls: do not change.
    """
    longer = max(height, width)
    rows, columns = (
        _positions(count, base, size=round(base / longer * count)) for count in (height, width)
    )
    frequencies = 1 / 10000 ** (torch.arange(0, head_size // 2, 2) / (head_size // 2))
    grid = torch.meshgrid(rows, columns, indexing="ij")
    angles = [axis.flatten().outer(frequencies) for axis in reversed(grid)]
    table = torch.cat(angles, dim=1).repeat_interleave(2, dim=1)
    return table.cos().to(device), table.sin().to(device)


def _positions(count: int, base: int, *, size: int) -> Tensor:
    """`count` positions from the start of a centred interval of `size`, its end left out."""
    start = round((base - size) / 2)
    return (start + torch.arange(count, dtype=torch.float64) * (size / count)).float()


def convert(state: Mapping[str, Tensor], config: Mapping) -> dict[str, Tensor]:
    """Official state dict, or one that has diffusers' keys already -> ours."""
    if any(".to_q." in key for key in state):
        return dict(state)
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, replacement in _RENAMED:
            key = re.sub(pattern, replacement, key)
        if fused := re.search(r"\.(Wqkv|kv_proj)\.", key):
            parts = ("to_q", "to_k", "to_v") if fused[1] == "Wqkv" else ("to_k", "to_v")
            for part, piece in zip(parts, value.chunk(len(parts)), strict=True):
                renamed[key.replace(fused[1], part)] = piece
        elif key.startswith("norm_out.linear."):  # (shift, scale) -> (scale, shift)
            renamed[key] = torch.cat(value.chunk(2)[::-1])
        else:
            renamed[key] = value
    return renamed


_BLOCK = r"^(blocks\.\d+)"
_RENAMED = (
    (r"^x_embedder\.", "pos_embed."),
    (r"^t_embedder\.mlp\.0\.", "time_extra_emb.timestep_embedder.linear_1."),
    (r"^t_embedder\.mlp\.2\.", "time_extra_emb.timestep_embedder.linear_2."),
    (r"^extra_embedder\.0\.", "time_extra_emb.extra_embedder.linear_1."),
    (r"^extra_embedder\.2\.", "time_extra_emb.extra_embedder.linear_2."),
    (r"^pooler\.", "time_extra_emb.pooler."),
    (r"^mlp_t5\.0\.", "text_embedder.linear_1."),
    (r"^mlp_t5\.2\.", "text_embedder.linear_2."),
    (r"^final_layer\.linear\.", "proj_out."),
    (r"^final_layer\.adaLN_modulation\.1\.", "norm_out.linear."),
    (_BLOCK + r"\.norm1\.", r"\1.norm1.norm."),
    (_BLOCK + r"\.default_modulation\.1\.", r"\1.norm1.linear."),
    (_BLOCK + r"\.norm2\.", r"\1.norm-mlp."),  # the two norms change places
    (_BLOCK + r"\.norm3\.", r"\1.norm2."),
    (_BLOCK + r"\.norm-mlp\.", r"\1.norm3."),
    (_BLOCK + r"\.mlp\.fc1\.", r"\1.ff.net.0.proj."),
    (_BLOCK + r"\.mlp\.fc2\.", r"\1.ff.net.2."),
    (_BLOCK + r"\.(attn\d)\.q_proj\.", r"\1.\2.to_q."),
    (_BLOCK + r"\.(attn\d)\.([qk])_norm\.", r"\1.\2.norm_\3."),
    (_BLOCK + r"\.(attn\d)\.out_proj\.", r"\1.\2.to_out.0."),
)


def tokens(arguments: Mapping) -> tuple[int, int]:
    """How many tokens the two text encoders give."""
    return arguments["text_len"], arguments["text_len_t5"]


def clean(prompt: str) -> str:
    """A prompt as the tokenizers get it (official pipeline)."""
    return prompt.strip()


def condition(encoded: Mapping[str, Tensor], null: Mapping[str, Tensor]) -> tuple[dict, dict]:
    """Encoder outputs of a prompt and a negative one -> conditions of both halves of guidance."""
    names = {
        "states": "encoder_hidden_states",
        "mask": "text_embedding_mask",
        "states_2": "encoder_hidden_states_t5",
        "mask_2": "text_embedding_mask_t5",
    }
    first, second = ({names[key]: part[key] for key in names} for part in (encoded, null))
    return first, second
