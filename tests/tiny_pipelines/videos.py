"""Pipelines that make clips."""

from typing import Any

import diffusers

from . import text
from .draw import drawn


def wan_transformer(**more: Any) -> Any:
    return drawn(
        diffusers.WanTransformer3DModel,
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=text.WIDTH,
        freq_dim=32,
        ffn_dim=32,
        rope_max_seq_len=32,
        **more,
    )


def wan(**more: Any) -> Any:
    tokenizer, text_encoder = text.t5("UMT5EncoderModel")
    return diffusers.WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=drawn(
            diffusers.AutoencoderKLWan,
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=[-0.5, 0.25, 0.0, 0.5],
            latents_std=[1.5, 2.0, 1.0, 2.5],
        ),
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=wan_transformer(num_layers=3),
        **more,
    )


def wan22() -> Any:
    """Two transformers: one above 0.875 of the noise, the other below."""
    return wan(transformer_2=wan_transformer(num_layers=4), boundary_ratio=0.875)


def cogvideox() -> Any:
    tokenizer, text_encoder = text.t5()
    return diffusers.CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=drawn(
            diffusers.AutoencoderKLCogVideoX,
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            sample_height=32,
            sample_width=48,
        ),
        transformer=drawn(
            diffusers.CogVideoXTransformer3DModel,
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=4,
            out_channels=4,
            time_embed_dim=16,
            text_embed_dim=text.WIDTH,
            num_layers=4,
            sample_width=6,
            sample_height=4,
            sample_frames=9,
            max_text_seq_length=32,
        ),
        scheduler=diffusers.CogVideoXDDIMScheduler(),
    )


MAKERS = {"wan": wan, "wan22": wan22, "cogvideox": cogvideox}
