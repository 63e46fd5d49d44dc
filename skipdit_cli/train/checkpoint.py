"""Checkpoints of training: one file, written whole; reading it runs no code from it."""

from pathlib import Path
from typing import Any

import torch

from skipdit_cli.errors import UsageError
from skipdit_cli.storage import given
from skipdit_cli.storage.disk import on_disk, replacing


def write(path: Path, content: dict[str, Any]) -> None:
    """Raises a StoreError where the disk refuses; the file that was there is kept then."""
    with on_disk(path), replacing(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what torch says of a full disk hides what the system said
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def read(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """What was written, or None where there is nothing.

    Raises:
        UsageError: it is damaged, or of a run with other settings; what differs is named.
    """
    if not path.exists():
        return None
    fix = "delete it or choose another --out"
    with given.decoding(str(path), "is no checkpoint of a training", fix=fix):
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before = dict(content["settings"])
    other = sorted(key for key in settings if before.get(key) != settings[key])
    if other:
        told = ", ".join(f"{key}={before.get(key)}" for key in other)
        raise UsageError(
            f"holds a run with other settings ({told})",
            place=str(path),
            fix="give those again, or choose another --out; or delete it",
        )
    return content
