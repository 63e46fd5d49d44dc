"""Cosine to the uncached sample of what DINOv2 sees in both; 1 for the same image.

Class tokens of DINOv2 ViT-B/14 (`_dino.py` says how images are prepared: shorter side to 256,
middle square of 224); the score of a clip is the plain mean over its frames. ViT-S/14 and ViT-L/14,
which some papers take, give other numbers.

Source: Oquab et al. 2023 for the network; there is no official code of this score.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.metrics import _dino
from skipdit_cli.metrics._dino import similarity as score

if TYPE_CHECKING:
    from skipdit_cli.metrics._dino import Network

__all__ = ["load", "score"]

NAME = "dinov2-similarity"
LABEL = "DINOv2"
UNIT = ""
BETTER = "higher"
NEEDS = "pairs"
TASKS = ("c2i", "c2v", "t2v", "t2i")
VERSION = 1
PROTOCOL = "cosine of class tokens, DINOv2 ViT-B/14"
ASSETS = (_dino.BASE_V2,)


def load(assets: Mapping[str, Path], device: str) -> "Network":
    return _dino.load_v2(assets["dinov2"], "dinov2", device)
