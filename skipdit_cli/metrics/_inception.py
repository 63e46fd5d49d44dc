"""Inception v3 of 2015-12-05 as torch-fidelity has it: what FID, IS, precision and recall see.

The graph's own bilinear resize to 299x299 (corners not aligned, no half-pixel centres, no
antialiasing) and scaling (x - 128) / 128 are those of TensorFlow 1; features per image:

    pool      [2048]  after the average pooling
    spatial   [2023]  the first 7 channels of Mixed_6d.branch1x1 (`mixed_6/conv` of the graph),
                      17x17x7, for sFID
    logits    [1008]  without the bias, for IS

Source: guided-diffusion evaluations/evaluator.py for the choice, torch-fidelity 0.4 for the rest.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipdit_cli.metrics import Asset, Extract, Extractor, _networks

if TYPE_CHECKING:
    from torch import Tensor, nn

POOL, SPATIAL, LOGITS = 2048, 17 * 17 * 7, 1008
CHANNELS = 7  # of the spatial features
BATCH = 64  # images in the network at once
SIDE = 256  # pixels, where images are brought to one size first
INSIDE = 299  # pixels that the network sees, after its resize


def network(weights: Path, *, device: str) -> "nn.Module":
    """torch-fidelity's extractor of pool features and logits.

    Raises:
        UsageError: the file is damaged or holds other weights.
    """
    import torch
    from torch_fidelity import FeatureExtractorInceptionV3

    whole = io.BytesIO()  # read safely; torch-fidelity would run code from the file itself
    torch.save(_networks.read(weights, "inception"), whole)
    whole.seek(0)
    features = ["2048", "logits_unbiased"]
    return _networks.ready(
        FeatureExtractorInceptionV3("inception", features, feature_extractor_weights_path=whole),
        device,
    )


def _load_all(assets: Mapping[str, Path], device: str) -> Extract:
    """Images uint8 [H,W,3] -> pool [N,2048], spatial [N,2023], logits [N,1008]."""
    import torch

    inception: Any = network(assets["inception"], device=device)
    seen: list[Tensor] = []
    inception.Mixed_6d.branch1x1.register_forward_hook(lambda *call: seen.append(call[2]))

    def extract(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        features: dict[str, list[Tensor]] = {"pool": [], "spatial": [], "logits": []}
        for batch in _batches(images):
            seen.clear()
            pool, logits = inception(batch.to(device))
            features["pool"].append(pool.cpu())
            features["spatial"].append(seen[0][:, :CHANNELS].flatten(1).cpu())
            features["logits"].append(logits.cpu())
        return {name: torch.cat(parts).numpy() for name, parts in features.items()}

    return extract


def _load_frames(assets: Mapping[str, Path], device: str) -> Extract:
    """Clips uint8 [T,H,W,3] -> pool [N,T,2048]."""
    import torch

    inception = network(assets["inception"], device=device)

    def extract(clips: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        frames = [frame for clip in clips for frame in clip]
        pool = torch.cat([inception(batch.to(device))[0].cpu() for batch in _batches(frames)])
        return {"pool": pool.unflatten(0, (len(clips), -1)).numpy()}

    return extract


def _load_resized(assets: Mapping[str, Path], device: str) -> Extract:
    """Images uint8 [H,W,3] of any size -> pool [N,2048] of their middle square at 256x256."""
    import torch

    inception = network(assets["inception"], device=device)

    def extract(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        squares = [square(image, SIDE) for image in images]
        parts = [inception(batch.to(device))[0].cpu() for batch in _batches(squares)]
        return {"pool": torch.cat(parts).numpy()}

    return extract


def _load_clean(assets: Mapping[str, Path], device: str) -> Extract:
    """Images uint8 [H,W,3] of any size -> clean [N,2048], the pool features of clean-fid."""
    import torch

    inception = network(assets["inception"], device=device)
    layers = [layer for name, layer in inception.named_children() if name != "fc"]
    trunk = torch.nn.Sequential(*layers, torch.nn.Flatten())  # the network without its own resize

    def extract(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(images), BATCH):
            whole = np.stack([stretched(image) for image in images[start : start + BATCH]])
            batch = torch.from_numpy(whole).to(device).permute(0, 3, 1, 2)  # [n,3,299,299]
            with torch.inference_mode():
                parts.append(trunk((batch - 128) / 128).cpu())
        return {"clean": torch.cat(parts).numpy()}

    return extract


def stretched(image: np.ndarray) -> np.ndarray:
    """An image uint8 [H,W,3] at 299x299 by PIL's bicubic filter, float32 0 to 255, not rounded."""
    from PIL import Image

    planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(image, -1, 0)]
    size = (INSIDE, INSIDE)
    resized = [np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes]
    return np.stack(resized, axis=-1).clip(0, 255)


def square(image: np.ndarray, side: int, *, resample: str = "LANCZOS") -> np.ndarray:
    """The middle square of an image uint8 [H,W,3], by a filter of PIL at side x side."""
    from PIL import Image

    height, width = image.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    cut = Image.fromarray(image[top : top + short, left : left + short])
    return np.asarray(cut.resize((side, side), Image.Resampling[resample]))


def _batches(images: Sequence[np.ndarray]) -> "Iterator[Tensor]":
    """Images uint8 [H,W,3], all of one size -> uint8 [n,3,H,W]."""
    import torch

    for start in range(0, len(images), BATCH):
        yield torch.from_numpy(np.stack(images[start : start + BATCH])).permute(0, 3, 1, 2)


FILE = Asset(
    name="inception",
    what="Inception of 2015 as torch-fidelity converted it",
    source="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth",
    file="weights-inception-2015-12-05-6726825d.pth",
    size=95_628_359,
    # The name has the first 8 digits; all of them are in many public checks of this file.
    digest="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    licence="Apache-2.0",
)
IMAGES = Extractor("inception", 1, (FILE,), _load_all, values=POOL + SPATIAL + LOGITS)
FRAMES = Extractor("inception-frames", 1, (FILE,), _load_frames, values=POOL, by_frame=True)
RESIZED = Extractor("inception-256", 1, (FILE,), _load_resized, values=POOL, any_size=True)
CLEAN = Extractor("inception-clean", 1, (FILE,), _load_clean, values=POOL, any_size=True)
