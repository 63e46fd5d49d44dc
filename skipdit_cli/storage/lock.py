"""The lock of a run: one process at a time makes or removes what is in its folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from skipdit_cli.errors import StoreError
from skipdit_cli.storage.disk import on_disk, put

FILES = ("run.lock", "run.pid")


@contextmanager
def held(
    folder: Path,
    *,
    waiting: Callable[[str], AbstractContextManager[Any]] | None = None,
    kept: Callable[[], str] = str,
) -> Iterator[None]:
    """Hold a run's folder, which is named by the run's key, for this process; it is made.

    The operating system frees the lock of a process that ends, however it ends.

    Args:
        waiting: opens a display of what is waited for while another process holds it; without it
            that is an error.
        kept: as of `on_disk`.
    Raises:
        StoreError: another process holds it and is not waited for, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock, holder = FileLock(folder / FILES[0]), folder / FILES[1]
    with on_disk(folder, kept=kept):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            locked = _locked(folder, holder)
            if waiting is None:
                raise locked from None
            with waiting(f"waiting: {locked.problem}"):
                lock.acquire()
    try:
        with on_disk(folder, kept=kept):
            put(holder, str(os.getpid()).encode())
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _locked(folder: Path, holder: Path) -> StoreError:
    try:
        who = f"process {int(holder.read_text())}"
    except (OSError, ValueError):
        who = "another process"
    return StoreError(
        f"{who} is working on run {folder.name}",
        place=str(folder),
        fix="wait for it to end, or stop it: what it has finished is kept",
    )
