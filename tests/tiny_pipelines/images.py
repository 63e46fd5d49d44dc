"""Pipelines that make images."""

from typing import Any

import diffusers

from . import text
from .draw import drawn

# Noise at which a network that predicts nothing of it lets samples grow tenfold, not 200-fold.
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}


def autoencoder(levels: int = 2, **more: Any) -> Any:
    """4 channels; each level after the first halves height and width."""
    return drawn(
        diffusers.AutoencoderKL,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
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


def qwen_image() -> Any:
    # The template, and how many tokens of it are dropped, are attributes of a pipeline.
    bare = diffusers.QwenImagePipeline(None, None, None, None, None)
    tokenizer, text_encoder = text.qwen(
        bare.prompt_template_encode, bare.prompt_template_encode_start_idx
    )
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, shift_terminal=0.02
        ),
        vae=drawn(
            diffusers.AutoencoderKLQwenImage,
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[-0.5, 0.25, 0.0, 0.5],
            latents_std=[1.5, 2.0, 1.0, 2.5],
        ),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=drawn(
            diffusers.QwenImageTransformer2DModel,
            **HEADS,
            in_channels=16,
            out_channels=4,
            num_layers=4,
            joint_attention_dim=text.WIDTH,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def hunyuan_dit() -> Any:
    tokenizer, text_encoder = text.bert()
    tokenizer_2, text_encoder_2 = text.t5()
    return diffusers.HunyuanDiTPipeline(
        vae=autoencoder(levels=4),  # it takes for granted that latents have an eighth of the size
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=drawn(
            diffusers.HunyuanDiT2DModel,
            **HEADS,
            in_channels=4,
            patch_size=2,
            sample_size=8,
            hidden_size=32,
            num_layers=6,
            cross_attention_dim=text.WIDTH,
            cross_attention_dim_t5=text.WIDTH,
            pooled_projection_dim=text.WIDTH,
            use_style_cond_and_image_meta_size=False,
        ),
        scheduler=diffusers.DDPMScheduler(**BETAS, prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
    )


MAKERS = {
    "flux": flux,
    "sd3": sd3,
    "pixart-sigma": pixart_sigma,
    "qwen-image": qwen_image,
    "hunyuan-dit": hunyuan_dit,
}
