"""DINO and DINOv2, what they see in images: the class token behind the last normalisation.

Images are brought to [3,224,224], scaled to [0,1] and normalised by ImageNet's mean and deviation:

    CUT     the shorter side to 256 (bicubic, antialiased), then the middle square, as both are
            evaluated by their authors
    WHOLE   both sides to 224 (bicubic, antialiased), whatever shape the image has

DINOv2 was trained on 37x37 patches and sees 16x16 of 224 pixels, for which its positions are
interpolated: as its authors' code does it, by 16.1 / 37, where transformers takes 16 / 37.

Source: facebookresearch/dino, facebookresearch/dinov2; transformers has the networks.
"""

from collections.abc import Mapping, Sequence
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from skipdit_cli.metrics import Asset, _networks, _pairs

if TYPE_CHECKING:
    from torch import nn

SIDE = 224  # pixels
BATCH = 16  # images in the network at once
OFFSET = 0.1  # of a patch, in the authors' interpolation of positions

CUT: Mapping[str, Any] = {
    "size": {"shortest_edge": 256},
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
}
WHOLE: Mapping[str, Any] = {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False}

BASE = Asset(
    name="dino",
    what="DINO ViT-B/16",
    source="facebook/dino-vitb16",
    size=343_000_000,
    licence="Apache-2.0",
)
BASE_V2 = Asset(
    name="dinov2",
    what="DINOv2 ViT-B/14",
    source="facebook/dinov2-base",
    size=346_000_000,
    licence="Apache-2.0",
)
LARGE_V2 = Asset(
    name="dinov2-large",
    what="DINOv2 ViT-L/14",
    source="facebook/dinov2-large",
    size=1_218_000_000,
    licence="Apache-2.0",
)


class Network(NamedTuple):
    """What sees, what prepares images for it, and where."""

    model: "nn.Module"
    images: Any
    device: str


def load_v1(folder: Path, asset: str, device: str) -> Network:
    """DINO from a folder in the layout of transformers.

    Raises:
        UsageError: a file in it is damaged or of another model.
    """
    from transformers import ViTModel

    model = _networks.pretrained(ViTModel, folder, asset, {"add_pooling_layer": False})
    return Network(_networks.ready(model, device), _processor(CUT), device)


def load_v2(folder: Path, asset: str, device: str, size: Mapping[str, Any] = CUT) -> Network:
    """DINOv2 from a folder in the layout of transformers.

    Raises:
        UsageError: a file in it is damaged or of another model.
    """
    from transformers import Dinov2Model

    model = _networks.pretrained(Dinov2Model, folder, asset)
    _fit_positions(model)
    return Network(_networks.ready(model, device), _processor(size), device)


def features(images: Sequence[np.ndarray], network: Network) -> np.ndarray:
    """The class tokens [N,d], float32, of images uint8 [H,W,3] of any sizes."""
    import torch

    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            given = network.images(images=list(images[start : start + BATCH]), return_tensors="pt")
            seen: Any = network.model(pixel_values=given["pixel_values"].to(network.device))
            parts.append(seen.last_hidden_state[:, 0].float().cpu())
    return torch.cat(parts).numpy()


def similarity(reference: np.ndarray, sample: np.ndarray, network: Network) -> float:
    """Cosine of the two's class tokens, of a clip the mean over its frames.

    Args:
        reference: uint8 [H,W,3] or [T,H,W,3].
        sample: the same.
        network: as one of the functions above loads it.

    Raises:
        UsageError: the two do not have the same shape.
    """
    originals, frames = zip(*_pairs.frames(reference, sample), strict=True)
    a, b = (features(each, network).astype(np.float64) for each in (originals, frames))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(axis=1) / norms))


def _processor(size: Mapping[str, Any]) -> Any:
    from transformers import BitImageProcessorPil
    from transformers.image_utils import (
        IMAGENET_DEFAULT_MEAN,
        IMAGENET_DEFAULT_STD,
        PILImageResampling,
    )

    return BitImageProcessorPil(
        resample=PILImageResampling.BICUBIC,
        image_mean=IMAGENET_DEFAULT_MEAN,
        image_std=IMAGENET_DEFAULT_STD,
        **size,
    )


def _fit_positions(model: Any) -> None:
    """Interpolate DINOv2's positions for SIDE, as its authors' code does."""
    import torch
    from torch import nn

    within = model.embeddings
    positions = within.position_embeddings.detach()  # [1,1+n*n,d], the class token first
    n, wanted = isqrt(positions.shape[1] - 1), SIDE // model.config.patch_size
    if n == wanted:
        return
    scale = (wanted + OFFSET) / n
    grid = positions[:, 1:].unflatten(1, (n, n)).permute(0, 3, 1, 2)  # [1,d,n,n]
    fitted = nn.functional.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    whole = torch.cat([positions[:, :1], fitted.flatten(2).transpose(1, 2)], dim=1)
    within.position_embeddings = nn.Parameter(whole)
