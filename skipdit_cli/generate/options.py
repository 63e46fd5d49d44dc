"""Options: where and how work runs, which changes no pixel."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
        workers: processes that generate side by side, and on GPUs score as well.
        repeats: timed repetitions of every loop; 0 times nothing.
        weights_path: a checkpoint file instead of the known place.
        offload: keep the autoencoder off the GPU while samples are denoised.
        previews: make an mp4 of every clip, to look at.
    """

    root: Path
    device: str = "cpu"
    stage: Stage = silent
    workers: int = 1
    repeats: int = 5
    weights_path: Path | None = None
    offload: bool = False
    previews: bool = True
