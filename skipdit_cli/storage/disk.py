"""The disk: files that are written whole or not at all and checked when they are read again.

What it refuses, and a file that is not what it should be, is told in one line. Nothing here knows
what a file says; everything that leaves files behind, and reads its own again, stands on it.
"""

import errno
import functools
import hashlib
import json
import os
import re
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from skipdit_cli.errors import StoreError

if TYPE_CHECKING:
    pass

T = TypeVar("T")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
HALF = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)(-(?P<host>[0-9a-f]{8}))?\.tmp")  # written half
ABANDONED = 3600.0  # seconds without a change, of what another machine was writing


class DamagedError(StoreError):
    """A file of ours that is there, can be read, and is not what was written there."""


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
        raise refused(error, place, kept=kept) from error


def refused(error: OSError, place: Path, *, kept: Callable[[], str] = str) -> StoreError:
    """The one line for what the operating system says about the disk; as `on_disk`."""
    problem = (error.strerror or repr(error)).lower()
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        place = next((p for p in (place, *place.parents) if p.is_file()), place)
        problem = "a file is where a folder should be"
    return StoreError(
        problem + kept(),
        place=str(place),
        fix="free some space and run the same command again: it continues"
        if error.errno in _FULL
        else "make the folder usable and run the same command again, or take another one",
    )


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

    Raises:
        OSError: the disk is full or the folder cannot be written; what was there stays.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside a file, from which what the block writes there is moved when it ends well.

    This is the one way in which files come to be, in portions where they are large. A process that
    is killed on the way leaves `.NAME.PID-HOST.tmp` behind (`remove_leftovers`).

    Raises:
        OSError: the disk is full or the folder cannot be written; what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{_host()}.tmp")
    try:
        yield temporary
        move(temporary, path)
    finally:
        with suppress(OSError):  # it is still there after a failure, or as a second name of `path`
            temporary.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Flush a file to the disk and put it in place of another one beside it.

    Raises:
        OSError: the disk refuses; what was there stays.
    """
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    os.replace(source, target)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder.

    What others may be writing stays: jobs of a queue go on when their driver is gone.

    Raises:
        OSError: the folder cannot be written.
    """
    for path in folder.rglob(".*.tmp"):
        if (half := HALF.fullmatch(path.name)) and not _in_work(path, half):
            path.unlink(missing_ok=True)


def _in_work(path: Path, half: re.Match[str]) -> bool:
    """Whether another process may be writing a file of this name."""
    pid = int(half["pid"])
    if half["host"] is None or (half["host"] == _host() and pid == os.getpid()):
        return False
    with suppress(ProcessLookupError, FileNotFoundError):
        if half["host"] == _host() and os.name == "posix":
            with suppress(PermissionError):  # it is another user's
                os.kill(pid, 0)
            return True
        return time.time() - path.stat().st_mtime < ABANDONED
    return False


@functools.cache
def _host() -> str:
    """What tells this machine from others, in the names of files."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def read_whole(path: Path, parse: Callable[[bytes], T], *, what: str, fix: str) -> T | None:
    """Read a file of our own.

    Args:
        path: the file.
        parse: what it says, from its bytes; a ValueError, TypeError, LookupError or AttributeError
            where they do not have the shape that they were given.
        what: what the file should be, for people ("result").
        fix: what to do about a damaged one.
    Returns:
        What `parse` made of it; None where there is no such file.
    Raises:
        DamagedError: the file is damaged or another one.
        StoreError: the disk cannot be read.
    """
    with on_disk(path):
        try:
            mode = path.stat().st_mode
            data = path.read_bytes() if stat.S_ISREG(mode) else None
        except FileNotFoundError:
            return None
    if data is None:
        problem = f"is a {'folder' if stat.S_ISDIR(mode) else 'device'} where a {what} should be"
        raise DamagedError(problem, place=str(path), fix="move it away")
    try:
        return parse(data)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, LookupError) else str(error)
        problem = f"is not a readable {what} ({why})"
        raise DamagedError(problem, place=str(path), fix=fix) from None


def read_json(path: Path, parse: Callable[[dict[str, Any]], T], *, what: str, fix: str) -> T | None:
    """Read a JSON file without a seal, which holds a mapping; otherwise as `read_whole`."""

    def mapping(data: bytes) -> T:
        content = json.loads(data)
        if not isinstance(content, dict):
            raise ValueError("it is not a mapping")
        return parse(content)

    return read_whole(path, mapping, what=what, fix=fix)


def sha256(path: Path) -> str:
    """The sha256 of a file; StoreError if it cannot be read."""
    with on_disk(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """What the head of a safetensors file says; {} where it is absent or cut off."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as content:
            return content.metadata() or {}
    except (SafetensorError, OSError):
        return {}


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
