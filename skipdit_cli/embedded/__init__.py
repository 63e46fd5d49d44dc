"""The small trained models that ship with the package: weights, and how each was made."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FOLDER = Path(__file__).parent


@cache
def reference_statistics(name: str) -> "tuple[np.ndarray, np.ndarray, int]":
    """Mean [d], covariance [d, d] and count of the classifier's features on real data.

    Args:
        name: "digits" (d = 64, ddof 1) or "moving-digits" (d = 128, ddof 0).
    """
    from safetensors.numpy import load_file

    data = load_file(FOLDER / "classifier" / f"reference_{name}.safetensors")
    return data["mean"], data["cov"], int(data["n"][0])
