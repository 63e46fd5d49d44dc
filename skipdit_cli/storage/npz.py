"""Images in the npz of the ADM evaluator: `arr_0`, uint8 [N,H,W,3], perhaps with labels in `arr_1`.

Read in place, without taking all of it into memory, and without ever unpickling.
"""

import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import UsageError
from skipdit_cli.storage.disk import on_disk, replacing

if TYPE_CHECKING:
    from skipdit_cli.storage.store import Store

IMAGES = "arr_0"
_LOCAL_HEADER = 30  # bytes of a zip member's own header before its name


class NpzSamples:
    """The images of a file as if they were the samples of a run.

    Attributes:
        path: the file.
        sha256: of the whole file.
        images: uint8 [N,H,W,3], read when they are looked at.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.sha256 = local.sha256(path)
            self.images = _mapped(path, IMAGES)
        except OSError as error:
            raise UsageError(
                f"cannot be read ({error.strerror or error})", place=str(path)
            ) from None
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError) as error:
            problem = f"is no npz with images in {IMAGES} ({error})"
            raise UsageError(
                problem, place=str(path), fix="write the file with numpy.savez"
            ) from None
        shape, dtype = self.images.shape, self.images.dtype
        if dtype != np.uint8 or len(shape) != 4 or shape[-1] != 3:
            raise UsageError(
                f"{IMAGES} is {dtype} {list(shape)}", place=str(path), fix="give uint8 [N,H,W,3]"
            )

    def __len__(self) -> int:
        return len(self.images)

    def hashes(self, n: int) -> list[str]:
        """What tells the first n images from others: the file and the place in it."""
        return [f"{self.sha256}/{i}" for i in range(n)]

    def read(self, index: int) -> np.ndarray:
        """An image, uint8 [H,W,3]."""
        return np.array(self.images[index])

    def meta(self, index: int) -> dict:
        """The class of an image, where the file has labels."""
        return {} if self._labels is None else {"class": int(self._labels[index])}

    @cached_property
    def _labels(self) -> np.ndarray | None:
        with np.load(self.path, allow_pickle=False) as content:
            return content.get("arr_1")


def statistics(path: Path, mean: str, covariance: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Two arrays of a file in float64, or None if it lacks one.

    Raises:
        UsageError: the file is damaged, or they do not fit one another.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            if mean not in content or covariance not in content:
                return None
            mu, sigma = (np.asarray(content[key], dtype=np.float64) for key in (mean, covariance))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"cannot be read ({error})", place=str(path)) from None
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise UsageError(
            f"{mean} {list(mu.shape)} and {covariance} {list(sigma.shape)} do not fit one another",
            place=str(path),
        )
    return mu, sigma


def write_npz(path: Path, store: "Store", n: int) -> None:
    """Write the first n images of a run, and their classes if they have some, for other tools.

    Raises:
        UsageError: the samples are clips.
        IncompleteError: some are missing.
        StoreError: the disk is full or cannot be written; no torn file is left.
    """
    store.require(n)
    first = store.read(0)
    if first.ndim != 3:
        raise UsageError(
            "an npz holds images, not clips", place=str(path), fix="score an image run"
        )
    labels = [store.meta(i).get("class") for i in range(n)]
    with on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(path) as temporary,
            zipfile.ZipFile(temporary, "w", allowZip64=True) as archive,
        ):
            _add(archive, IMAGES, (n, *first.shape), first.dtype, map(store.read, range(n)))
            if None not in labels:
                shape, kind = (n,), np.dtype(np.int64)
                _add(archive, "arr_1", shape, kind, iter([np.array(labels, dtype=kind)]))


def _add(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    rows: Iterator[np.ndarray],
) -> None:
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for row in rows:
            member.write(np.ascontiguousarray(row).tobytes())


def _mapped(path: Path, name: str) -> np.ndarray:
    """An array of an npz, in place; a compressed one is unpacked to a temporary file first."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{name}.npy")
        if member.compress_type == zipfile.ZIP_STORED:
            with path.open("rb") as file:
                file.seek(member.header_offset)
                local = file.read(_LOCAL_HEADER)
                names = int.from_bytes(local[26:28], "little")
                extra = int.from_bytes(local[28:30], "little")
                file.seek(member.header_offset + _LOCAL_HEADER + names + extra)
                return _map(file)
        with tempfile.TemporaryFile() as whole, archive.open(member) as packed:
            shutil.copyfileobj(packed, whole)
            whole.seek(0)
            return _map(whole)


def _map(file: IO[bytes]) -> np.ndarray:
    """The array whose npy header begins here."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"its npy version {version} is not known")
    shape, fortran, dtype = read[version](file)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    flat = np.memmap(file, dtype=dtype, mode="r", offset=file.tell(), shape=(math.prod(shape),))
    return flat.reshape(shape, order="F" if fortran else "C")
