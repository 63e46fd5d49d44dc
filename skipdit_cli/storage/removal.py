"""Removal: what was made of a run goes, in an order of which no part can be taken for the whole.

Scores and failures go first, then the description and the journal of the samples, then these: a
removal that is killed leaves a run with fewer scores, or files that no journal tells of. Nothing of
another run is touched, and nothing that runs share, such as the embeddings of prompts and tables.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from skipdit_cli.storage import lock
from skipdit_cli.storage.disk import on_disk

PLACES = ("scores", "failures", "samples", "npz")  # where runs have a folder each, by key
FIRST = ("run.json", "samples.jsonl")  # without which samples are none


def remove(root: Path, keys: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Remove all that was made of runs, once all of them are locked.

    Yields:
        (key, scores and timings that went) of every run, as it is gone.
    Raises:
        StoreError: another process is working on a run, and nothing is removed then; or the disk
            refuses.
    """
    keys = list(dict.fromkeys(keys))
    with ExitStack() as held:
        for key in keys:
            if (folder := root / "samples" / key).is_dir():
                held.enter_context(lock.held(folder))
        for key in keys:
            scores = len(list((root / "scores" / key).glob("*.json")))
            for place in PLACES:
                _remove(root / place / key)
            yield key, scores


def _remove(folder: Path) -> None:
    with on_disk(folder):
        if not folder.is_dir():
            return
        for name in FIRST:
            (folder / name).unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in lock.FILES:
                path.unlink()
        for name in lock.FILES:  # the last, for as long as there is something to guard
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
