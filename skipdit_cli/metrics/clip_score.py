"""CLIP score: 100 times the cosine between image and prompt, mean over samples.

CLIP ViT-B/32: the paper does not name its model, and its values (30.5 for HunyuanDiT) are of the
size that this one gives, not those of ViT-L/14. A negative cosine counts as 0, sample by sample. A
prompt of more than 77 tokens is cut by the tokenizer, which keeps the end token, and is told.

Source: Hessel et al. 2021 without its factor 2.5; torchmetrics has the formula.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Asset, Meta, _networks

if TYPE_CHECKING:
    from torch import nn

    from skipdit_cli.metrics._clip import Network

NAME = "clip-score"
LABEL = "CLIP score"
UNIT = ""
BETTER = "higher"
NEEDS = "each"
TASKS = ("t2i",)
VERSION = 1
PROTOCOL = "100 cos, CLIP ViT-B/32"
ASSETS = (
    Asset(
        name="clip",
        what="CLIP ViT-B/32",
        source="openai/clip-vit-base-patch32",
        size=609_400_000,
        licence="MIT",
        holds=("preprocessor_config.json", "tokenizer"),
    ),
)


def load(assets: Mapping[str, Path], device: str) -> "Network":
    """The network from a folder in the layout of transformers.

    Raises:
        UsageError: a file in it is damaged.
    """
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    from skipdit_cli.metrics import _clip

    folder = assets["clip"]
    model = _networks.pretrained(CLIPModel, folder, "clip")
    try:
        images = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # each part of transformers has its own
        problem = f"has no files of CLIP beside the model ({type(error).__name__})"
        raise UsageError(problem, place=str(folder), fix=_networks.again("clip")) from None
    clip, most = _networks.ready(_clip.Clip(model), device), tokenizer.model_max_length
    return _clip.Network(clip, images, tokenizer, device, most)


def score(sample: np.ndarray, meta: Meta, network: "Network") -> float:
    """The score, 0 to 100, of an image uint8 [H,W,3] whose meta has a prompt.

    Raises:
        UsageError: there is no prompt, or the sample is a clip.
    """
    import torch
    from torchmetrics.functional.multimodal import clip_score

    if "prompt" not in meta or sample.ndim != 3:
        raise UsageError(f"{NAME} needs an image and its prompt", fix="score a text-to-image model")
    image = torch.from_numpy(sample).permute(2, 0, 1).to(network.device)  # [3,H,W]
    models: Any = partial(_models, network)
    with torch.inference_mode():
        return max(float(clip_score(image, meta["prompt"], models)), 0.0)


def _models(network: "Network") -> "tuple[nn.Module, Any]":
    return network.model, network.process
