"""Pixels -> latents: the encoding half of a checkpoint's autoencoder."""

from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import SkipditError
from skipdit_cli.generate.decode import at_once, autoencoder
from skipdit_cli.precision import dtype_of, products

if TYPE_CHECKING:
    from torch import Tensor

    from skipdit_cli.checkpoints.card import Card


def posterior(
    images: "Tensor", card: "Card", *, device: str = "cpu", precision: str = "float32"
) -> "tuple[Tensor, Tensor]":
    """What an autoencoder takes images, or frames, for: a normal distribution of latents.

    As many are encoded together as are decoded.

    Args:
        images: [N, 3, H, W] in [-1, 1].
        card: the checkpoint whose autoencoder it is.
        precision: of the autoencoder.
    Returns:
        Mean and standard deviation [N, C, h, w] of scaled latents, float32 on the CPU.
    Raises:
        MissingAssetError: the autoencoder is not here.
        SkipditError: what it gives is not finite.
    """
    import torch

    dtype, folder = dtype_of(precision), local.component(card, "vae")
    encoder: Any = autoencoder(folder, dtype, drawn=card.random).to(device)
    factor = 2 ** (len(encoder.config.block_out_channels) - 1)
    height, width = (size // factor for size in images.shape[2:])
    parts = []
    with torch.no_grad(), products(precision):
        for some in images.split(at_once(height, width)):
            found = encoder.encode(some.to(device, getattr(torch, dtype))).latent_dist
            parts.append(torch.stack([found.mean, found.std]).float().cpu())
    mean, std = torch.cat(parts, dim=1) * encoder.config.scaling_factor
    if not (torch.isfinite(mean).all() and torch.isfinite(std).all()):
        raise SkipditError(
            f"the autoencoder of {card.name} gave values that are not finite in {precision}",
            fix="encode in float32",
        )
    return mean, std
