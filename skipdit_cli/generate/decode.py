"""Latents -> pixels: once, by one rule for every sample of a comparison."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints import local
from skipdit_cli.checkpoints.drawn import empty, fill
from skipdit_cli.checkpoints.inventory import remedy
from skipdit_cli.errors import MissingAssetError, SkipditError, lacks_memory
from skipdit_cli.generate import loaded
from skipdit_cli.precision import dtype_of, products

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from skipdit_cli.checkpoints.card import Card

FRAMES = 14  # decoded at a time: what the temporal decoder of Latte sees at once (official code)
PLACES = 128 * 128  # of latents decoded at a time: one image of 1024x1024, 16 of 256x256


def to_pixels(
    latents: "Tensor",
    card: "Card",
    *,
    channel_dim: int = 1,
    precision: str = "float32",
    offload: bool = False,
) -> "np.ndarray":
    """Decode a batch.

    Args:
        latents: [B, C, H, W], [B, F, C, H, W] or [B, C, F, H, W], as `channel_dim` tells; without
            an autoencoder they are pixels in [-1, 1].
        card: the checkpoint that they come from.
        precision: of the autoencoder; in 16 bits, pixels are rounded from its own numbers, as in
            the official code.
        offload: take the autoencoder off the device afterwards.
    Returns:
        uint8 RGB [B, H, W, 3] or [B, F, H, W, 3].
    Raises:
        MissingAssetError: the autoencoder is not here.
        SkipditError: what it gives is not finite.
    """
    import torch

    dtype = dtype_of(precision)
    latents = latents.to(getattr(torch, dtype))
    if latents.dim() == 5 and channel_dim == 1:
        latents = latents.transpose(1, 2)
    clips = list(latents) if latents.dim() == 5 else [latents]  # [F, C, H, W] each, or all images
    if "vae" in card.components:
        folder = local.component(card, "vae")
        decoder = autoencoder(folder, dtype, drawn=card.random).to(latents.device)
        size = FRAMES if latents.dim() == 5 else at_once(*latents.shape[-2:])
        with torch.no_grad(), products(precision):
            clips = [_decode(decoder, clip, size) for clip in clips]
        if not all(torch.isfinite(clip).all() for clip in clips):
            raise SkipditError(
                f"the autoencoder of {card.name} gave values that are not finite in {precision}",
                fix="decode in float32",
            )
        if offload:
            decoder.to("cpu")
    pixels = to_uint8(torch.cat(clips), task=card.task)
    pixels = pixels.reshape(*latents.shape[:-3], *pixels.shape[1:])
    return pixels.cpu().numpy()


def visible(latents: "Tensor", card: "Card") -> "Tensor":
    """Latents without what no image has: of a model on pixels, blacker than black is black."""
    return latents if "vae" in card.components or card.pipeline else latents.clamp(-1, 1)


def to_uint8(images: "Tensor", *, task: str = "c2i") -> "Tensor":
    """[N, 1 or 3, H, W] in [-1, 1] -> uint8 RGB [N, H, W, 3], in the official code's own order.

    c2i and c2v round, and differ from one another at ties alone; t2v cuts off, so that half of its
    values are one lower; t2i rounds half to even.

    Source: DiT `sample_ddp.py`; Latte `sample.py` and `pipeline_latte.py`; diffusers
    `VaeImageProcessor`.
    """
    import torch

    if task == "c2i":
        pixels = (127.5 * images + 128.0).clamp(0, 255)
    elif task == "c2v":
        pixels = ((images * 0.5 + 0.5) * 255 + 0.5).clamp(0, 255)
    else:
        pixels = (images / 2 + 0.5).clamp(0, 1) * 255
        pixels = pixels.round() if task == "t2i" else pixels
    return pixels.to(torch.uint8).expand(-1, 3, -1, -1).permute(0, 2, 3, 1)


def at_once(height: int, width: int) -> int:
    """How many images are decoded together, from the size of their latents alone.

    What else is in memory does not count: how many there are may decide on the last bits. They take
    as much of it together as one of the largest images.

    >>> at_once(32, 32), at_once(64, 64), at_once(128, 128), at_once(160, 96)
    (16, 4, 1, 1)
    """
    return max(1, PLACES // (height * width))


def _decode(decoder: Any, clip: "Tensor", size: int) -> "Tensor":
    """Latents of one clip, or of several images [F, C, H, W] -> images [F, 3, 8H, 8W].

    Args:
        size: frames or images at a time.
    """
    import torch

    parts = (clip / decoder.config.scaling_factor).split(size)
    if type(decoder).__name__ == "AutoencoderKLTemporalDecoder":
        return torch.cat([decoder.decode(part, num_frames=len(part)).sample for part in parts])
    return torch.cat([decoder.decode(part).sample for part in parts])


def autoencoder(folder: Path, dtype: str, *, drawn: bool = False) -> "nn.Module":
    """The autoencoder in a folder; a process has one at a time.

    Args:
        drawn: draw its weights.
    """
    key = (folder, dtype, drawn)
    return loaded.one("autoencoder", key, lambda: _load(folder, dtype, drawn=drawn))


def _load(folder: Path, dtype: str, *, drawn: bool) -> "nn.Module":
    """The autoencoder in a folder, on the CPU; its config names which of two it is."""
    import diffusers
    import torch

    logging = diffusers.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)  # what it says on the way is said below
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        temporal = name == "AutoencoderKLTemporalDecoder"
        kind = diffusers.AutoencoderKLTemporalDecoder if temporal else diffusers.AutoencoderKL
        if drawn:
            model = empty(lambda: kind.from_config(kind.load_config(folder)))
            return fill(model, dtype=dtype)
        decoder, loading_info = kind.from_pretrained(
            folder,
            torch_dtype=getattr(torch, dtype),
            low_cpu_mem_usage=False,
            local_files_only=True,
            output_loading_info=True,
        )
        if absent := loading_info["missing_keys"]:  # diffusers draws them at random
            raise ValueError(f"no weights of {', '.join(sorted(absent))}")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        raise MissingAssetError(
            f"the autoencoder cannot be loaded ({str(error).splitlines()[0][:120]})",
            place=str(folder),
            fix=remedy(folder),
        ) from None
    finally:
        logging.set_verbosity(level)
    return decoder.requires_grad_(False).eval()
