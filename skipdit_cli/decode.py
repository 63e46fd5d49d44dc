"""Latents -> pixels: once, in float32, by one rule for every sample of a comparison."""

from functools import cache
from typing import TYPE_CHECKING

from skipdit_cli.errors import MissingAssetError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

SCALE = 0.18215  # of the latents of Stable Diffusion's autoencoder
FRAMES = 16  # decoded at a time


def to_pixels(latents: "Tensor", vae: str | None) -> "np.ndarray":
    """Decode a batch.

    Args:
        latents: [B, C, H, W] or [B, F, C, H, W]; without an autoencoder they are pixels in [-1, 1].
        vae: hub repository of the autoencoder, or None.
    Returns:
        uint8 RGB [B, H, W, 3] or [B, F, H, W, 3].
    """
    import torch

    images = latents.float().flatten(0, -4)  # [N, C, H, W]
    if vae is not None:
        decoder = _autoencoder(vae, str(latents.device))
        with torch.no_grad():
            images = torch.cat(
                [decoder.decode(part / SCALE).sample for part in images.split(FRAMES)]
            )
    pixels = to_uint8(images)
    pixels = pixels.reshape(*latents.shape[:-3], *pixels.shape[1:])
    return pixels.cpu().numpy()


def to_uint8(images: "Tensor") -> "Tensor":
    """[N, 1 or 3, H, W] in [-1, 1] -> uint8 RGB [N, H, W, 3]: truncated `127.5 x + 128`.

    Source: facebookresearch/DiT `sample_ddp.py`; Latte's class-to-video formula is the same one.
    """
    import torch

    pixels = (127.5 * images + 128.0).clamp(0, 255).to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)


@cache
def _autoencoder(name: str, device: str) -> "nn.Module":
    from diffusers import AutoencoderKL

    try:
        decoder = AutoencoderKL.from_pretrained(name, low_cpu_mem_usage=False)
    except OSError:
        raise MissingAssetError(
            f"the autoencoder {name} is not here and cannot be fetched",
            fix=f"run `hf download {name}` where there is a network",
        ) from None
    return decoder.to(device).eval()
