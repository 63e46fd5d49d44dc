"""Redo: remove what was made of runs, so that the command that follows makes it again.

That is for code or data that changed without a change of the run's key. Nothing of another run is
touched, and nothing that runs share, such as the embeddings of prompts and statistics of real data.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import registry
from skipdit_cli.checkpoints import local
from skipdit_cli.score import reference
from skipdit_cli.score.outside import FOLDER, Outside
from skipdit_cli.storage import removal
from skipdit_cli.storage.disk import on_disk
from skipdit_cli.storage.store import open_store

if TYPE_CHECKING:
    from skipdit_cli.run import Run


@dataclass(frozen=True)
class Removed:
    """How much was removed of a run: samples, and scores and timings."""

    run: "Run"
    samples: int
    scores: int


def samples(
    runs: Iterable["Run"], *, root: Path, weights_path: Path | None = None
) -> Iterator[Removed]:
    """Remove the samples of runs with all that was made of them: features, scores, timings.

    Args:
        root: the results folder.
        weights_path: a checkpoint file instead of the known place.
    Yields:
        What was removed of every run of which something was there.
    Raises:
        MissingAssetError: weights to make them again are not here; nothing is removed then.
        StoreError: another process is working on a run, or the disk refuses.
    """
    runs = list({run.key: run for run in runs}.values())
    for card in dict.fromkeys(run.card for run in runs):
        local.require(card, path=weights_path)
    for run in runs:
        count = open_store(root, run).count()
        for _, scores in removal.remove(root, [run.key]):
            if count or scores:
                yield Removed(run, count, scores)


def scores(jobs: Iterable[tuple["Run", Sequence[str]]], *, root: Path) -> Iterator[Removed]:
    """Remove the scores of runs by some metrics, and the features behind these.

    Args:
        jobs: runs, each with metrics.
        root: the results folder.
    Yields:
        What was removed of every run of which something was there.
    Raises:
        StoreError: the disk refuses.
    """
    for run, metrics in jobs:
        folder = open_store(root, run).path / "features"
        if count := _of(run.key, folder, metrics, root=root):
            yield Removed(run, 0, count)


def outside(
    subjects: Iterable[tuple[Outside, Sequence[str]]], *, root: Path
) -> Iterator[tuple[Outside, int]]:
    """Remove the scores of what other tools made, each by some metrics; as `scores`."""
    for given, metrics in subjects:
        count = 0
        for metric in metrics:
            module = registry.load("metrics", metric)
            folder = root / FOLDER / "features" / given.folder(module)
            count += _of(given.key(module), folder, [metric], root=root / FOLDER)
        if count:
            yield given, count


def _of(key: str, folder: Path, metrics: Iterable[str], *, root: Path) -> int:
    """Remove the scores of one subject by some metrics, and the features in a folder behind these.

    Returns:
        How many scores there were.
    Raises:
        StoreError: the disk refuses.
    """
    names = list(metrics)
    for metric in names:
        features = folder / reference.kept_as(registry.load("metrics", metric))
        with on_disk(features):
            if features.is_dir():
                shutil.rmtree(features)
    _remove(root / "failures" / key / f"{metric}.json" for metric in names)
    return _remove(root / "scores" / key / f"{metric}.json" for metric in names)


def _remove(paths: Iterable[Path]) -> int:
    """Remove files; returns how many of them there were."""
    count = 0
    for path in paths:
        with on_disk(path):
            if path.is_file():
                path.unlink()
                count += 1
    return count
