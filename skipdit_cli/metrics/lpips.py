"""Learned perceptual distance from the uncached sample, AlexNet; 0 for the same image.

Zhang et al. 2018, version 0.1: per frame, the mean over the map of distances at the frame's own
size (`spatial=True`), RGB scaled to [-1,1]; the score of a clip is the plain mean over its frames.
Without the map (`spatial=False`, as in torchmetrics) values differ by some 0.1 %.

Source: VideoSys eval/pab/common_metrics, with the package `lpips`, which has the linear layers.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipdit_cli.metrics import Asset, _networks, _pairs

if TYPE_CHECKING:
    from torch import nn

NAME = "lpips"
LABEL = "LPIPS"
UNIT = ""
BETTER = "lower"
NEEDS = "pairs"
TASKS = ("c2i", "c2v", "t2v", "t2i")
VERSION = 1
PROTOCOL = "VideoSys eval/pab, plain mean"
ASSETS = (
    Asset(
        name="alexnet",
        what="AlexNet under LPIPS",
        source="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        file="alexnet-owt-7be5be79.pth",
        size=244_408_911,
        # The name has the first 8 digits; all of them are in many public checks of this file.
        digest="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        licence="BSD-3-Clause",
    ),
)
SMALLEST = 31  # pixels; what is left of fewer is too small for AlexNet's second pooling

FRAMES_AT_ONCE = 16


def load(assets: Mapping[str, Path], device: str) -> "nn.Module":
    """The network, with torchvision's AlexNet under the package's linear layers."""
    state = _networks.read(assets["alexnet"], "alexnet")
    network: Any = build()
    trunk = {
        name: state[f"features.{name.partition('.')[2]}"] for name in network.net.state_dict()
    }  # "slice2.3.weight" is AlexNet's "features.3.weight"
    network.net.load_state_dict(trunk)
    return _networks.ready(network, device)


def build() -> "nn.Module":
    """The network with an AlexNet of random weights."""
    from lpips import LPIPS

    with warnings.catch_warnings():  # torchvision's, about how lpips asks for AlexNet
        warnings.simplefilter("ignore")
        return LPIPS(net="alex", spatial=True, pnet_rand=True, verbose=False)


def score(reference: np.ndarray, sample: np.ndarray, network: "nn.Module") -> float:
    """LPIPS of a sample: uint8 [H,W,3] or [T,H,W,3], both the same, H and W at least 31.

    Raises:
        UsageError: the two do not have the same shape, or are too small.
    """
    import torch

    pairs = list(_pairs.frames(reference, sample, smallest=SMALLEST))
    device = next(network.parameters()).device
    scores: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(pairs), FRAMES_AT_ONCE):
            a, b = (
                torch.from_numpy(np.stack(frames)).to(device).permute(0, 3, 1, 2) / 127.5 - 1
                for frames in zip(*pairs[start : start + FRAMES_AT_ONCE], strict=True)
            )  # [n,3,H,W] in [-1,1]
            scores += network(a, b).mean(dim=(1, 2, 3)).tolist()
    return float(np.mean(scores))
