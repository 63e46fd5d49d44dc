"""I3D trained on Kinetics-400, as StyleGAN-V's TorchScript file: what FVD sees.

A clip is described by the 400 logits. The file itself brings frames to 224x224 (bilinear) and
scales them to [-1,1].

Source: Skip-DiT class-to-video/tools (fvd2048_16f), after StyleGAN-V.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics._extractor import Extract, Extractor

FRAMES = 16  # of a clip
BATCH = 8  # clips in the network at once


def _load(assets: Mapping[str, Path], device: str) -> Extract:
    """Clips uint8 [T,H,W,3] -> logits [N,400]."""
    try:
        network = torch.jit.load(assets["i3d"], map_location=device).eval()
    except RuntimeError as error:
        raise UsageError(
            f"is no TorchScript file ({str(error).splitlines()[0][:80]})",
            place=str(assets["i3d"]),
            fix="delete it and download it again",
        ) from None

    return extractor(network, device)


def extractor(network: nn.Module, device: str) -> Extract:
    """Clips uint8 [T,H,W,3] -> what a detector with the file's three switches gives of them."""

    def extract(clips: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(clips), BATCH):
            batch = torch.from_numpy(np.stack(clips[start : start + BATCH]))  # [n,T,H,W,3]
            batch = batch.to(device).permute(0, 4, 1, 2, 3).float()  # [n,3,T,H,W], 0 to 255
            with torch.inference_mode():
                logits = network(batch, rescale=True, resize=True, return_features=True)
            parts.append(logits.float().cpu())
        return {"logits": torch.cat(parts).numpy()}

    return extract


EXTRACTOR = Extractor("i3d", 1, ("i3d",), _load)
