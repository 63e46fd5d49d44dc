"""Writing report files: each is the old one or the new one, never half of it."""

import os
from contextlib import suppress
from pathlib import Path

from skipdit_cli.errors import StoreError


def replace(path: Path, content: bytes) -> Path:
    """Put a file in place, making its folder; returns the path.

    Raises:
        StoreError: the disk is full or the folder cannot be written; what was there stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StoreError(
            f"could not be written: {error.strerror or error}",
            place=str(path),
            fix="free some space, or choose a folder that can be written",
        ) from None
    return path
