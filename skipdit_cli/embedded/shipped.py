"""Data that ship with the package: where they are in a checkout, and in an installed wheel.

A wheel has copies of the checkout's `recipes` and `results/published` inside the package
(pyproject.toml, force-include); the small trained models lie there in both. What does not ship lies
at `home`.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def home() -> Path:
    """Where what is fetched or made on this machine lies: $SKIPDIT_HOME, or the user's cache.

    A variable that is empty is as one that is not set.
    """
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("SKIPDIT_HOME") or cache_home / "skipdit")


def recipes() -> Path:
    """The folder of recipes; `data` in it has the lists of prompts."""
    return _folder("recipes_data", checkout="recipes")


def published() -> Path:
    """The folder of the paper's own numbers, a CSV file per table."""
    return _folder("published_data", checkout="results/published")


def vbench_pins() -> Path:
    """The locked versions of VBench's environment, as pip takes them."""
    return _folder("vbench_data", checkout="") / "constraints-vbench.txt"


def embedded() -> Path:
    """The folder of the small trained models, with their text encoders and calibrations."""
    return PACKAGE / "embedded"


def _folder(inside: str, *, checkout: str) -> Path:
    copied = PACKAGE / inside
    return copied if copied.is_dir() else PACKAGE.parent / checkout
