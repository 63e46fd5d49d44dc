"""Pipelines of transformers that diffusers' caches know little of, or nothing."""

from typing import Any

import diffusers

from . import text
from .draw import drawn
from .images import HEADS, autoencoder


def sana() -> Any:
    """Blocks that diffusers has no entry for; linear attention, and an MLP of convolutions."""
    tokenizer, text_encoder = text.gemma()
    widths = {
        f"{coder}_{name}": value
        for coder in ("encoder", "decoder")
        for name, value in {
            "block_types": ("ResBlock", "EfficientViTBlock"),
            "block_out_channels": (8, 8),
            "layers_per_block": (1, 1),
            "qkv_multiscales": ((), (5,)),
        }.items()
    }
    return diffusers.SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=drawn(
            diffusers.AutoencoderDC,
            **widths,
            latent_channels=4,
            attention_head_dim=4,
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        transformer=drawn(
            diffusers.SanaTransformer2DModel,
            **HEADS,
            in_channels=4,
            out_channels=4,
            num_layers=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=16,
            cross_attention_dim=32,
            caption_channels=text.WIDTH,
            sample_size=16,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def chroma() -> Any:
    """Two streams that are joined in its second list of blocks."""
    tokenizer, text_encoder = text.t5()
    return diffusers.ChromaPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=drawn(
            diffusers.ChromaTransformer2DModel,
            **HEADS,
            in_channels=16,
            num_layers=3,
            num_single_layers=3,
            joint_attention_dim=text.WIDTH,
            axes_dims_rope=(4, 4, 8),
            approximator_num_channels=16,
            approximator_hidden_dim=32,
            approximator_layers=1,
        ),
    )


def cogview4() -> Any:
    """One MLP in a block for image and text, called twice."""
    tokenizer, text_encoder = text.glm()
    return diffusers.CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=autoencoder(),
        transformer=drawn(
            diffusers.CogView4Transformer2DModel,
            **HEADS,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=4,
            text_embed_dim=text.WIDTH,
            time_embed_dim=16,
            condition_dim=4,
            sample_size=16,
            rope_axes_dim=(16, 16),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, time_shift_type="linear"
        ),
    )


def z_image() -> Any:
    """A list of latents, the conditional ones first; how long texts are is asked for."""
    tokenizer, text_encoder = text.qwen3()
    transformer = drawn(
        diffusers.ZImageTransformer2DModel,
        in_channels=4,
        dim=32,
        n_layers=4,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=text.WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    for token in (transformer.x_pad_token, transformer.cap_pad_token):
        token.data.fill_(1.0)  # diffusers leaves them as memory is
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )


def easyanimate() -> Any:
    """Its call fails without a negative prompt."""
    tokenizer, text_encoder = text.qwen2()
    spatial, temporal = ([f"Spatial{more}{{}}Block3D"] for more in ("", "Temporal"))
    return diffusers.EasyAnimatePipeline(
        vae=drawn(
            diffusers.AutoencoderKLMagvit,
            latent_channels=4,
            block_out_channels=(8, 8, 8, 8),
            down_block_types=[name.format("Down") for name in spatial + 3 * temporal],
            up_block_types=[name.format("Up") for name in spatial + 3 * temporal],
            layers_per_block=1,
            norm_num_groups=2,
        ),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=drawn(
            diffusers.EasyAnimateTransformer3DModel,
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            num_layers=4,
            time_embed_dim=8,
            text_embed_dim=text.WIDTH,
            patch_size=2,
            sample_width=16,
            sample_height=16,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


MAKERS = {
    "sana": sana,
    "chroma": chroma,
    "cogview4": cogview4,
    "z-image": z_image,
    "easyanimate": easyanimate,
}
