"""The small trained models that ship with the package: weights, and how each was made."""

import functools
from typing import TYPE_CHECKING

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError
from skipdit_cli.storage import kept

if TYPE_CHECKING:
    import numpy as np

# By name of data: the folder of the classifier that knows it, and has its statistics.
CLASSIFIERS = {
    "digits": "classifier",
    "moving-digits": "classifier",
    "fashion": "fashion-classifier",
}
STATISTICS = kept.Kind("file of statistics", 2, fix="install the package again")


@functools.cache
def reference_statistics(name: str) -> "tuple[np.ndarray, np.ndarray, int]":
    """Mean [d], covariance [d, d] and count of the classifier's features on real data.

    Args:
        name: "digits" or "fashion" (d = 64, ddof 1), or "moving-digits" (d = 128, ddof 0).
    """
    path = shipped.embedded() / CLASSIFIERS[name] / f"reference_{name}.safetensors"
    statistics = kept.read_arrays(path, _statistics, STATISTICS, of=path.stem)
    if statistics is None:
        raise MissingAssetError(
            "statistics that ship are not here", place=str(path), fix=STATISTICS.fix
        )
    return statistics


def _statistics(arrays: "dict[str, np.ndarray]") -> "tuple[np.ndarray, np.ndarray, int]":
    return arrays["mean"], arrays["cov"], int(arrays["n"][0])
