"""Cosine to the uncached sample of what DINO sees in both; 1 for the same image.

Class tokens of DINO ViT-B/16 (`_dino.py` says how images are prepared: shorter side to 256, middle
square of 224); the score of a clip is the plain mean over its frames. ViT-S/16, which DreamBooth
takes, gives another number.

Source: Caron et al. 2021 for the network; there is no official code of this score.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.metrics import _dino
from skipdit_cli.metrics._dino import similarity as score

if TYPE_CHECKING:
    from skipdit_cli.metrics._dino import Network

__all__ = ["load", "score"]

NAME = "dino-similarity"
LABEL = "DINO"
UNIT = ""
BETTER = "higher"
NEEDS = "pairs"
TASKS = ("c2i", "c2v", "t2v", "t2i")
VERSION = 1
PROTOCOL = "cosine of class tokens, DINO ViT-B/16"
ASSETS = (_dino.BASE,)


def load(assets: Mapping[str, Path], device: str) -> "Network":
    return _dino.load_v1(assets["dino"], "dino", device)
