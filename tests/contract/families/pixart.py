"""PixArt, text-to-image: a family that diffusers has, in one file."""

import torch
from diffusers.models.transformers.pixart_transformer_2d import PixArtTransformer2DModel

from skipdit_cli.sites import Layout, kinds_of

VARIANTS = {
    "PixArt-XL/2": {"num_layers": 28, "sample_size": 128},
    "PixArt-digits/2": {
        "num_layers": 3,
        "sample_size": 16,
        "in_channels": 1,
        "out_channels": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 16,
        "caption_channels": 32,
        "use_additional_conditions": False,
    },
}
SITES = {
    "layer": "transformer_blocks.{i}",
    "attn.spatial": "transformer_blocks.{i}.attn1",
    "attn.cross": "transformer_blocks.{i}.attn2",
    "mlp.spatial": "transformer_blocks.{i}.ff",
}


class PixArt(PixArtTransformer2DModel):
    CHANNEL_DIM = 1
    GUIDED_CHANNELS = 4
    SITES = SITES

    def forward(
        self,
        hidden_states,
        timestep,
        encoder_hidden_states,
        encoder_attention_mask=None,
        *,
        return_dict=True,
    ):
        return super().forward(
            hidden_states,
            encoder_hidden_states,
            timestep,
            {"resolution": None, "aspect_ratio": None},
            encoder_attention_mask=encoder_attention_mask,
            return_dict=return_dict,
        )

    def layout(self):
        return Layout("pixart", self.config.num_layers, kinds_of(SITES))

    def inputs(self, batch_size, *, device="cpu"):
        config, dtype = self.config, self.proj_out.weight.dtype
        image = batch_size, config.in_channels, config.sample_size, config.sample_size
        text = batch_size, 120, config.caption_channels
        return {
            "hidden_states": torch.zeros(image, device=device, dtype=dtype),
            "timestep": torch.zeros(batch_size, device=device, dtype=torch.int64),
            "encoder_hidden_states": torch.zeros(text, device=device, dtype=dtype),
        }


MODEL = PixArt


def convert(state, config):
    return dict(state)


def tokens(arguments):
    return (120,)
