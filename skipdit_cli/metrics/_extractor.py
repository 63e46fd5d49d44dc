"""What a metric of a set sees through: a network, and the real samples that it compares with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from skipdit_cli.metrics._frechet import Moments

Features = Mapping[str, np.ndarray]  # by name, [N,...] of the N samples of a chunk
Extract = Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Extractor:
    """A network that describes samples by features.

    Attributes:
        name, version: under these its features are kept; the version goes up when they change.
        assets: names of what must be downloaded for it.
        load: (assets by name, device) -> a function from samples to their features.
    """

    name: str
    version: int
    assets: tuple[str, ...]
    load: Callable[[Mapping[str, Path], str], Extract]


class Reference(Protocol):
    """Real samples, as the extractor of a metric sees them."""

    def moments(self, feature: str, *, ddof: int) -> Moments:
        """Mean [d] and covariance [d,d] of a feature."""

    def features(self) -> Iterator[Features]:
        """The features in chunks; where only statistics are known, a UsageError."""
