"""Files that other people made and a person names: looked at before anything is read of them.

A pipe waits for ever, a device has no end, a damaged file makes its reader raise anything. Whoever
reads a recipe, prompts, an npz, weights or a video asks here first, and reads under `decoding`.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skipdit_cli.errors import SkipditError, UsageError, lacks_memory

MOST = 200 * 10**9  # bytes of any file: 50,000 images of 1024x1024 in an npz are 157 GB
MOST_TEXT = 64 * 10**6  # bytes of a recipe or a list of prompts: COCO's 30,000 captions are 2 MB

_NO_FILE = {
    stat.S_IFDIR: "is a folder, not a file",
    stat.S_IFIFO: "is a pipe, not a file",
    stat.S_IFSOCK: "is a socket, not a file",
    stat.S_IFCHR: "is a device, not a file",
    stat.S_IFBLK: "is a device, not a file",
}


def check(path: Path, *, place: str = "", fix: str = "", most: int = MOST) -> None:
    """Raise a UsageError unless something is a file that can be read and is not too large.

    Args:
        path: what was named; links are followed.
        place: what the error names; else the path.
        fix: what to give instead.
        most: bytes of the file.
    """
    place = place or str(path)
    try:
        told = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError("no such file", place=place, fix=fix) from None
    except (OSError, ValueError) as error:  # the latter: a name that no file can have
        raise UsageError(f"cannot be read ({_reason(error)})", place=place, fix=fix) from None
    if problem := _NO_FILE.get(stat.S_IFMT(told.st_mode)):
        raise UsageError(problem, place=place, fix=fix)
    if not os.access(path, os.R_OK):
        raise UsageError("cannot be read (permission denied)", place=place, fix=fix)
    if told.st_size > most:
        problem = f"has {told.st_size} bytes, and at most {most} are read"
        raise UsageError(problem, place=place, fix=fix)


def read_text(path: Path, *, place: str = "", fix: str = "", most: int = MOST_TEXT) -> str:
    """A text file in UTF-8, without its byte-order mark; otherwise as `check`.

    Raises:
        UsageError: it is no such file, or not text in UTF-8.
    """
    check(path, place=place, fix=fix, most=most)
    with decoding(place or str(path), "cannot be read", fix=fix), path.open("rb") as file:
        data = file.read(most + 1)[:most]  # it may have grown
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError("is not text in UTF-8", place=place or str(path), fix=fix) from None


@contextmanager
def decoding(place: str, problem: str, *, fix: str = "") -> Iterator[None]:
    """Turn whatever a reader of foreign files raises into one line.

    Args:
        place: the file.
        problem: what is wrong with it; the reader's own words follow in brackets.
        fix: what to do about it.
    Raises:
        UsageError: in place of what the block raises, but for our own errors and a lack of memory.
    """
    try:
        yield
    except SkipditError:
        raise
    except Exception as error:  # zip, zlib, pickle, Pillow, FFmpeg and numpy each have their own
        if lacks_memory(error):
            raise
        raise UsageError(f"{problem} ({_reason(error)})", place=place, fix=fix) from None


def _reason(error: Exception) -> str:
    """The first line of what an error says, or its name where it says nothing."""
    told = getattr(error, "strerror", None) or str(error)
    lines = str(told).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
