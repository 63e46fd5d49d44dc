"""Pipelines that make images."""

from typing import Any

import diffusers

from . import text
from .draw import drawn

# Noise at which a network that predicts nothing of it lets samples grow tenfold, not 200-fold.
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}


def autoencoder(**more: Any) -> Any:
    """4 channels, half the height and width."""
    return drawn(
        diffusers.AutoencoderKL,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        **more,
    )


def flux() -> Any:
    tokenizer, text_encoder = text.clip()
    tokenizer_2, text_encoder_2 = text.t5()
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=autoencoder(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=drawn(
            diffusers.FluxTransformer2DModel,
            **HEADS,
            in_channels=16,
            num_layers=3,
            num_single_layers=3,
            joint_attention_dim=text.WIDTH,
            pooled_projection_dim=text.WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def sd3() -> Any:
    half = text.WIDTH // 2
    tokenizer, text_encoder = text.clip("CLIPTextModelWithProjection", half)
    tokenizer_2, text_encoder_2 = text.clip("CLIPTextModelWithProjection", half)
    tokenizer_3, text_encoder_3 = text.t5()
    return diffusers.StableDiffusion3Pipeline(
        transformer=drawn(
            diffusers.SD3Transformer2DModel,
            **HEADS,
            sample_size=16,
            in_channels=4,
            out_channels=4,
            num_layers=4,
            joint_attention_dim=text.WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * half,
            pos_embed_max_size=16,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    )


def pixart_sigma() -> Any:
    tokenizer, text_encoder = text.t5()
    return diffusers.PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=autoencoder(),
        transformer=drawn(
            diffusers.PixArtTransformer2DModel,
            **HEADS,
            sample_size=16,
            num_layers=4,
            cross_attention_dim=32,
            caption_channels=text.WIDTH,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(**BETAS),
    )


MAKERS = {"flux": flux, "sd3": sd3, "pixart-sigma": pixart_sigma}
