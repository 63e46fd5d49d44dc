"""CLIP maximum mean discrepancy from real images (CMMD): ImageNet's, or COCO's for prompts.

1,000 times the squared maximum mean discrepancy, biased (each image beside itself as well), of the
image embeddings of CLIP ViT-L/14 at 336 pixels, of length 1, under the Gaussian kernel of sigma 10.
An image is cut to its middle square, which PIL's bicubic filter brings to 336x336. The paper has
COCO's images on the real side. Here these are the 30,000 that the prompt list `coco` describes, or
the 10,000 of ADM's reference batch; others are given with `--reference`.

Source: Jayasumana et al. 2024, google-research/cmmd, which is in float32 behind the embeddings and
leaves out the images of a last batch that is short; here they are all in, and it is float64.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import (
    Asset,
    Extract,
    Extractor,
    Features,
    Reference,
    _coco,
    _imagenet,
    _inception,
    _networks,
)

NAME = "cmmd"
LABEL = "CMMD"
UNIT = ""
BETTER = "lower"
NEEDS = "set"
TASKS = ("c2i", "t2i")
VERSION = 1
PROTOCOL = "google-research/cmmd, CLIP ViT-L/14 at 336"

SIGMA, SCALE = 10.0, 1000.0
SIDE = 336  # pixels
BATCH = 16  # images in the network at once
ROWS = 1000  # of a matrix of distances, at once

FILE = Asset(
    name="clip-336",
    what="CLIP ViT-L/14 at 336 pixels",
    source="openai/clip-vit-large-patch14-336",
    size=1_712_000_000,
    licence="MIT",
)


def _load(assets: Mapping[str, Path], device: str) -> Extract:
    """Images uint8 [H,W,3] -> embeddings [N,768] of length 1."""
    import torch
    from transformers import CLIPImageProcessorPil, CLIPModel

    from skipdit_cli.metrics import _clip

    model = _networks.pretrained(CLIPModel, assets["clip-336"], "clip-336")
    clip = _clip.Clip(_networks.ready(model, device))
    prepare = CLIPImageProcessorPil(do_resize=False, do_center_crop=False)  # normalises alone

    def extract(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(images), BATCH):
            squares = [
                _inception.square(image, SIDE, resample="BICUBIC")
                for image in images[start : start + BATCH]
            ]
            pixels = prepare(images=squares, return_tensors="pt")["pixel_values"].to(device)
            with torch.inference_mode():
                seen = clip.get_image_features(pixels).float()
            parts.append((seen / seen.norm(dim=1, keepdim=True)).cpu())
        return {"embedding": torch.cat(parts).numpy()}

    return extract


EXTRACTOR = Extractor("clip-336", 1, (FILE,), _load, values=768, any_size=True)
REFERENCE = "{dataset}"
REFERENCES = (_imagenet.BATCH, _coco.IMAGES)


def score_set(features: Iterable[Features], reference: Reference) -> float:
    """The discrepancy of images from the reference, at least one of each.

    Raises:
        UsageError: there are no images.
    """
    ours, real = (
        [chunk["embedding"] for chunk in chunks] for chunks in (features, reference.features())
    )
    if not ours or not real:
        raise UsageError(f"{NAME} has no images to compare", fix="give at least one on each side")
    return of_embeddings(np.concatenate(ours), np.concatenate(real))


def of_embeddings(samples: np.ndarray, real: np.ndarray) -> float:
    """The discrepancy between embeddings [N,d] and those of real images [M,d]."""
    x, y = (each.astype(np.float64) for each in (samples, real))
    return SCALE * (_mean_kernel(x, x) + _mean_kernel(y, y) - 2 * _mean_kernel(x, y))


def _mean_kernel(x: np.ndarray, y: np.ndarray) -> float:
    """Mean of exp(-|a - b|^2 / (2 sigma^2)) over all a of x [N,d] and b of y [M,d]."""
    total, lengths = 0.0, (y * y).sum(axis=1)
    for start in range(0, len(x), ROWS):
        rows = x[start : start + ROWS]
        squared = (rows * rows).sum(axis=1)[:, None] + lengths - 2 * rows @ y.T
        total += float(np.exp(squared / (-2 * SIGMA**2)).sum())
    return total / (len(x) * len(y))
