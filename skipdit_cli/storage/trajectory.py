"""Trajectories: the latents of a run's first samples after every step, and how far a cache is off.

    <samples of the run>/trajectory.safetensors
        "timesteps" int64 [steps]
        "latents" float32 [S, steps, values]

S is SAMPLES, or the batch size if that is less. Of latents with more than VALUES values, the same
VALUES of them, drawn at random, are kept in every run: an error over these estimates that over all
of them, and a run of clips keeps megabytes in place of gigabytes.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skipdit_cli.storage import kept
from skipdit_cli.storage.store import Store, open_store

if TYPE_CHECKING:
    from skipdit_cli.run import Run

TRAJECTORY = kept.Kind("trajectory", 2)
SAMPLES = 4
VALUES = 16_384
FILE = "trajectory.safetensors"


@dataclass(frozen=True)
class ErrorCurve:
    """How far the latents of a run are from those of its uncached reference.

    Attributes:
        timesteps: of the steps, in their order.
        errors: ||x - x_ref|| / ||x_ref|| of every sample after every step, float64 [S, steps].
    """

    timesteps: tuple[int, ...]
    errors: np.ndarray


@functools.cache
def places(size: int) -> np.ndarray:
    """Which of a sample's values are kept, of so many; int64, ascending.

    >>> len(places(100)), len(places(10**6))
    (100, 16384)
    """
    # RandomState's stream is frozen: another numpy draws the same places
    return np.sort(np.random.RandomState(0).permutation(size)[:VALUES])


def file(run: "Run", latents: np.ndarray) -> tuple[str, bytes]:
    """The name and content of the file of a run's trajectory, which lies beside its samples.

    Args:
        latents: float32 [S, steps, values], after each step, at `places`.
    """
    from safetensors.numpy import save as to_bytes

    timesteps = np.array(run.timesteps, np.int64)
    arrays = {"latents": np.ascontiguousarray(latents), "timesteps": timesteps}
    return FILE, kept.sealed_arrays(to_bytes(arrays), TRAJECTORY, of=run.key)


def read_trajectory(store: Store) -> tuple[np.ndarray, list[int]] | None:
    """(latents, timesteps) as they were saved; None where the file is absent or damaged."""
    with kept.damaged_is_absent():
        return kept.read_arrays(store.path / FILE, _parse, TRAJECTORY, of=store.run.key)
    return None


def _parse(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, list[int]]:
    latents, timesteps = arrays["latents"], arrays["timesteps"]
    if latents.ndim != 3 or timesteps.shape != latents.shape[1:2]:
        raise ValueError(f"{timesteps.shape} timesteps and {latents.shape} latents do not fit")
    return latents, timesteps.tolist()


def compare(run: "Run", *, root: Path) -> ErrorCurve | None:
    """A run beside its uncached reference; None where either was not generated yet.

    Raises:
        StoreError: what is on disk belongs to another run.
    """
    ours, theirs = (read_trajectory(open_store(root, each)) for each in (run, run.reference))
    if ours is None or theirs is None or ours[1] != theirs[1]:
        return None
    (latents, timesteps), (reference, _) = ours, theirs
    away = np.linalg.norm(latents.astype(np.float64) - reference, axis=2)
    return ErrorCurve(tuple(timesteps), away / np.linalg.norm(reference.astype(np.float64), axis=2))
