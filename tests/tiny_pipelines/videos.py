"""Pipelines that make clips."""

from typing import Any

import diffusers

from . import images, text
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
    return wan(
        transformer_2=wan_transformer(num_layers=3, cross_attn_norm=False), boundary_ratio=0.875
    )


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
        scheduler=diffusers.CogVideoXDDIMScheduler(
            **images.BETAS,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=3.0,
            timestep_spacing="trailing",
        ),
    )


def hunyuan_video() -> Any:
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    template, dropped = DEFAULT_PROMPT_TEMPLATE.values()
    tokenizer, text_encoder = text.llama(template, dropped)
    tokenizer_2, text_encoder_2 = text.clip()
    return diffusers.HunyuanVideoPipeline(
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=drawn(
            diffusers.HunyuanVideoTransformer3DModel,
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            num_layers=3,
            num_single_layers=3,
            num_refiner_layers=1,
            text_embed_dim=text.WIDTH,
            pooled_projection_dim=text.WIDTH,
            rope_axes_dim=(4, 4, 4),
        ),
        vae=drawn(
            diffusers.AutoencoderKLHunyuanVideo,
            latent_channels=4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
    )


def ltx() -> Any:
    tokenizer, text_encoder = text.t5()
    halved = (True, True, False, False)
    widths = (8, 8, 8, 8)
    layers = (1, 1, 1, 1, 1)
    return diffusers.LTXPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, shift_terminal=0.1
        ),
        vae=drawn(
            diffusers.AutoencoderKLLTXVideo,
            latent_channels=8,
            block_out_channels=widths,
            decoder_block_out_channels=widths,
            layers_per_block=layers,
            decoder_layers_per_block=layers,
            spatio_temporal_scaling=halved,
            decoder_spatio_temporal_scaling=halved,
            patch_size=1,
        ),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=drawn(
            diffusers.LTXVideoTransformer3DModel,
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=8,
            out_channels=8,
            cross_attention_dim=32,
            num_layers=4,
            caption_channels=text.WIDTH,
        ),
    )


def latte() -> Any:
    tokenizer, text_encoder = text.t5()
    return diffusers.LattePipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=images.autoencoder(),
        transformer=drawn(
            diffusers.LatteTransformer3DModel,
            **images.HEADS,
            in_channels=4,
            out_channels=8,
            num_layers=4,
            cross_attention_dim=32,
            attention_bias=True,
            sample_size=16,
            patch_size=2,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
            caption_channels=text.WIDTH,
            video_length=4,
        ),
        scheduler=diffusers.DDIMScheduler(**images.BETAS, clip_sample=False),
    )


MAKERS = {
    "wan": wan,
    "wan22": wan22,
    "cogvideox": cogvideox,
    "hunyuan-video": hunyuan_video,
    "ltx": ltx,
    "latte": latte,
}
