"""The lock of a run: one process at a time makes or removes what is in its folder.

Beside it lies who holds it, `run.pid`: the number of the process, since when, and its host. It is
for people, and for other machines, on which a lock may not be seen; a killed process leaves it.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from skipdit_cli.errors import StoreError
from skipdit_cli.storage.disk import on_disk, put

FILES = ("run.lock", "run.pid")


class HeldError(StoreError):
    """Another process holds the folder."""


@dataclass(frozen=True)
class Holder:
    """Who has, or had, a run to itself.

    Attributes:
        pid: of the process.
        since: when it took the run; None where an earlier version wrote no time.
        host: on which it runs; "" where an earlier version wrote none.
    """

    pid: int
    since: datetime | None = None
    host: str = ""

    @property
    def here(self) -> bool:
        """Whether it may be on this machine."""
        return self.host in ("", socket.gethostname())

    def __str__(self) -> str:
        return f"process {self.pid}" if self.here else f"process {self.pid} on {self.host}"


def holder_of(folder: Path) -> Holder | None:
    """Who holds a run's folder, or held it when it was killed; None where that is not told."""
    with suppress(OSError, ValueError):
        pid, *more = (folder / FILES[1]).read_text().split(maxsplit=2)
        if len(more) == 2:
            return Holder(int(pid), datetime.fromisoformat(more[0]), more[1].strip())
        return Holder(int(pid))
    return None


def seen_held(folder: Path) -> bool:
    """Whether a process of this machine holds a run's folder.

    It is asked of the operating system by a shared lock that is given back at once: nothing is
    written, and a holder does not notice. False where the system has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        return False
    with suppress(OSError), open(folder / FILES[0], "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
    return False


@contextmanager
def held(
    folder: Path,
    *,
    kept: Callable[[], str] = str,
) -> Iterator[None]:
    """Hold a run's folder, which is named by the run's key, for this process; it is made.

    The operating system frees the lock of a process that ends, however it ends.

    Args:
        kept: as of `on_disk`.
    Raises:
        HeldError: another process holds it.
        StoreError: it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock, holder = FileLock(folder / FILES[0]), folder / FILES[1]
    with on_disk(folder, kept=kept):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise _locked(folder) from None
    try:
        with on_disk(folder, kept=kept):
            since = datetime.now(UTC).isoformat()
            put(holder, f"{os.getpid()} {since} {socket.gethostname()}\n".encode())
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _locked(folder: Path) -> HeldError:
    return HeldError(
        f"{holder_of(folder) or 'another process'} is working on run {folder.name}",
        place=str(folder),
        fix="wait for it to end, or stop it: what it has finished is kept",
    )
