"""The disk: files that are written whole or not at all, and what it refuses told in one line.

Nothing here knows what a file holds; everything that leaves files behind stands on it.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skipdit_cli.errors import StoreError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def on_disk(place: Path, *, kept: Callable[[], str] = str) -> Iterator[None]:
    """Turn what the operating system says about the disk into one line.

    Args:
        place: the file or folder that the error names.
        kept: what to say behind the problem; asked only where there is one.
    Raises:
        StoreError: in place of an OSError of the block.
    """
    try:
        yield
    except OSError as error:
        problem = (error.strerror or repr(error)).lower()
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            place = next((p for p in (place, *place.parents) if p.is_file()), place)
            problem = "a file is where a folder should be"
        raise StoreError(
            problem + kept(),
            place=str(place),
            fix="free some space and run the same command again: it continues"
            if error.errno in _FULL
            else "make the folder usable and run the same command again, or take another one",
        ) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, and its folder if there is none.

    Raises:
        StoreError: the disk is full or the folder cannot be written; what was there stays.
    """
    with on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, data)


def put(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, for a caller who is `on_disk` already.

    It is written beside its place, flushed and moved there. A process that is killed on the way
    leaves `.NAME.PID.tmp` behind.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def append(path: Path, line: bytes) -> None:
    """Append a line by one write, which no other process can split.

    If the last line was torn, or another process is just appending one, a line break comes first.

    Raises:
        OSError: the disk is full or the file cannot be written; half of the line may stand there.
    """
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(file, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(file)


def check_writable(folder: Path) -> None:
    """Find out, before anything is computed, whether files can be written in a folder; it is made.

    Raises:
        StoreError: they cannot.
    """
    with on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
