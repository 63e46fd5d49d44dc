"""Options: where and how work runs, which changes no pixel."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.generate.local import Local

if TYPE_CHECKING:
    from skipdit_cli.generate.engine import Engine

Progress = Callable[[int, int], None]  # (done, total)
Stage = Callable[[str], AbstractContextManager[Progress]]


@contextmanager
def silent(what: str) -> Iterator[Progress]:
    """A stage that shows nothing."""
    yield lambda done, total: None


@dataclass(frozen=True)
class Options:
    """Where and how a command runs.

    Attributes:
        root: the results folder.
        device: "cpu" or "cuda".
        stage: opens a progress display of the name it is given; what it yields is called with
            (done, total).
        engine: where batches are computed, and where a GPU does it scored as well.
        repeats: timed repetitions of every loop; 0 times nothing.
        weights_path: a checkpoint file instead of the known place.
        offload: one of OFFLOADS, what is kept off the GPU while it is not needed; "" for nothing.
        previews: make an mp4 of every clip, to look at.
    """

    root: Path
    device: str = "cpu"
    stage: Stage = silent
    engine: "Engine" = field(default_factory=Local)
    repeats: int = 5
    weights_path: Path | None = None
    offload: str = ""
    previews: bool = True
