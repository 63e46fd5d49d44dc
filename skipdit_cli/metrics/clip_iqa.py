"""CLIP-IQA: how much surer CLIP is of "Good photo." than of "Bad photo.", 0 to 1, mean over images.

The share of the first in the softmax over 100 times the cosines of an image with the two prompts,
"quality" in torchmetrics. The network is the CLIP ViT-B/32 of `clip-score`; the paper's own is a
ResNet-50 without positions, which gives other numbers.

Source: Wang et al. 2023; torchmetrics has the formula.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from skipdit_cli import registry
from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Meta

if TYPE_CHECKING:
    from torch import nn

    from skipdit_cli.metrics._clip import Network

__all__ = ["load", "score"]

_clip_score = registry.load("metrics", "clip-score")

NAME = "clip-iqa"
LABEL = "CLIP-IQA"
UNIT = ""
BETTER = "higher"
NEEDS = "each"
TASKS = ("c2i", "t2i")
VERSION = 1
PROTOCOL = "torchmetrics, Good photo. / Bad photo., CLIP ViT-B/32"
ASSETS = _clip_score.ASSETS
PROMPTS = ("quality",)

load = _clip_score.load


def score(sample: np.ndarray, meta: Meta, network: "Network") -> float:
    """The score, 0 to 1, of an image uint8 [H,W,3]; what it was to show does not count.

    Raises:
        UsageError: the sample is a clip.
    """
    import torch
    from torchmetrics.functional.multimodal import clip_image_quality_assessment

    if sample.ndim != 3:
        raise UsageError(f"{NAME} needs an image", fix="score an image model")
    image = torch.from_numpy(sample).permute(2, 0, 1)[None].to(network.device)  # [1,3,H,W]
    models: Any = partial(_models, network)
    with torch.inference_mode():  # a range of 1: they stay 0 to 255, which what prepares them takes
        share: Any = clip_image_quality_assessment(image, models, 1.0, PROMPTS)
    return float(share)


def _models(network: "Network") -> "tuple[nn.Module, Any]":
    return network.model, network.process
