"""One file from its source to the disk: resumed, verified, and only then under its name.

`hf_hub_download` throws away what an interrupted transfer brought (huggingface_hub 2), so the bytes
come through its `http_get`, which goes on at an offset, into a file of our own. The name of that
file holds the version it belongs to: what came of another version is never completed with this one.
"""

import errno
import hashlib
import io
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skipdit_cli.checkpoints._sources import RemoteFile, unreachable
from skipdit_cli.errors import MissingAssetError
from skipdit_cli.storage.disk import move, on_disk, refused

Progress = Callable[[str, int, int], None]  # what is done, bytes done, bytes in all (0: unknown)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
_BLOCK = 1 << 22


def silent(what: str, done: int, total: int) -> None:
    """A Progress that tells nobody."""


def fetch(file: RemoteFile, target: Path, *, progress: Progress = silent) -> Path:
    """Bring a file to `target`; at once if a sound copy is there.

    A file that is there and is not what the source lists is deleted, which `progress` is told. A
    transfer that broke off goes on where it stopped.

    Raises:
        MissingAssetError: the network or the source failed, or what came is not what was listed.
        StoreError: the disk is full or cannot be written.
    """
    part = _part(file, target)
    with on_disk(target):
        if target.is_file():
            if not (wrong := mismatch(file, target, progress=progress)):
                return target
            progress(f"deleting {target}: {wrong}", 0, 0)
            target.unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        for old in target.parent.glob(f".{target.name}.*.part"):
            if old != part:
                old.unlink()
        if file.cached and not mismatch(file, file.cached, progress=progress):
            link_or_copy(file.cached, part)
    if file.size is None or not part.is_file() or part.stat().st_size != file.size:
        _transfer(file, part, progress=progress)
    if wrong := mismatch(file, part, progress=progress):
        part.unlink()
        raise MissingAssetError(
            f"what came of {file.label} is damaged: {wrong}; it was deleted",
            fix="run the command again; if that does not help, the source serves another file "
            "than it lists",
        )
    with on_disk(target):
        move(part, target)
    return target


def left(file: RemoteFile, target: Path) -> int:
    """Bytes that `fetch` will still add to the disk, as far as the source tells the size."""
    size = file.size or 0
    if target.is_file() and target.stat().st_size == size:
        return 0
    if file.cached and file.cached.stat().st_dev == existing(target).stat().st_dev:
        return 0  # it gets a second name
    part = _part(file, target)
    return max(0, size - (part.stat().st_size if part.is_file() else 0))


def mismatch(file: RemoteFile, path: Path, *, progress: Progress = silent) -> str:
    """How a file on the disk differs from what its source lists in size and hash, or ""."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"it has {size} bytes, not {file.size}"
    if not file.digest:
        return ""
    sha, kind = hashlib.sha256(), "sha256"
    if len(file.digest) == 40:  # git's hash of a file that is not in large-file storage
        sha = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        kind = "git hash"
    done = 0
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            sha.update(block)
            done += len(block)
            progress(f"checking {file.label}", done, size)
    if (digest := sha.hexdigest()).startswith(
        file.digest
    ):  # of some only the first digits are known
        return ""
    return f"its {kind} is {digest[:12]}…, not {file.digest[:12]}…"


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def _part(file: RemoteFile, target: Path) -> Path:
    """Where a transfer is kept until it is complete."""
    version = hashlib.sha256(f"{file.version}/{file.size}".encode()).hexdigest()[:12]
    return target.with_name(f".{target.name}.{version}.part")


def link_or_copy(source: Path, target: Path) -> None:
    """A file that is here already: the same bytes under a second name, or else a copy."""
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


class _Watched(io.BufferedWriter):
    """A file that tells how long it is whenever it grows."""

    def __init__(self, path: Path, tell: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._grown = tell

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        self._grown(self.tell())
        return written


def _transfer(file: RemoteFile, part: Path, *, progress: Progress) -> None:
    """Append what is missing to the part."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    # a token of the hub goes to the hub only; compressed content would hide its length
    headers = dict(build_hf_headers() if file.repository else {}, **{"Accept-Encoding": "identity"})
    with on_disk(part):
        have = part.stat().st_size if part.is_file() else 0
        if have and (file.size is None or not file.version or have > file.size):
            part.unlink()  # nothing tells that the rest would fit
            have = 0
        output = _Watched(
            part, lambda done: progress(f"fetching {file.label}", done, file.size or 0)
        )
    progress(f"fetching {file.label}", have, file.size or 0)
    try:
        with output, _quiet():
            http_get(file.address, output, resume_size=have, headers=headers)
    except Exception as error:  # each version of huggingface_hub has another set
        if isinstance(error, OSError) and error.errno in _DISK:
            raise refused(error, part) from None
        if not (done := part.stat().st_size):
            part.unlink()
            raise unreachable(file.label, error) from None
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise MissingAssetError(
            f"the transfer of {file.label} broke off after {done} of {file.size} bytes ({reason})",
            fix="run the command again: it goes on from there",
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Our progress and errors instead of those of huggingface_hub."""
    from huggingface_hub.utils import disable_progress_bars

    if "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ:
        disable_progress_bars("huggingface_hub.http_get")
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
