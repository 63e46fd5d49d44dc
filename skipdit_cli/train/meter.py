"""What is measured of training between two lines of its log."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Meter:
    """Losses and norms of the steps since the last time something was told, and the time."""

    def __init__(self, seconds: float) -> None:
        """seconds: of the run before this process."""
        self._begun = time.monotonic() - seconds
        self.restart()

    def restart(self) -> None:
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._since = time.monotonic()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Time in the block is none of these steps'."""
        begun = time.monotonic()
        yield
        self._since += time.monotonic() - begun

    def add(self, loss: Tensor, norm: Tensor) -> None:
        self._seen.append((loss, norm))

    def steps(self) -> int:
        return len(self._seen)

    def means(self) -> tuple[float, float]:
        """Of losses and of norms; what waits for the device."""
        loss, norm = (float(torch.stack(each).mean()) for each in zip(*self._seen, strict=True))
        return loss, norm

    def since(self) -> float:
        """Seconds of these steps."""
        return time.monotonic() - self._since

    def finite(self) -> bool:
        """Whether all losses are numbers; what waits for the device."""
        return all(math.isfinite(loss) for loss, _ in self._seen)

    def seconds(self) -> float:
        """Seconds of the run in all."""
        return time.monotonic() - self._begun
