"""Images in the npz of the ADM evaluator: `arr_0`, uint8 [N,H,W,3]; its labels are not read.

Clips in the same form are uint8 [N,T,H,W,3].

Read in place, without taking all of it into memory, and without ever unpickling. What a header says
is compared with what is there before anything is mapped or unpacked, and a member's checksum with
its bytes before any of them counts.
"""

import functools
import io
import math
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import UsageError
from skipdit_cli.storage import given
from skipdit_cli.storage.disk import on_disk, replacing

if TYPE_CHECKING:
    from skipdit_cli.storage.store import Store

IMAGES = "arr_0"
# Images hardly get smaller when they are packed: photographs not at all, digits on black by some
# ten times, while a file that is made to fill a disk gets smaller by two hundred times and more.
MOST_PACKED = 30  # times that the bytes of a packed array may be those in the file
ANYWAY = 256 * 2**20  # bytes that may be unpacked however small they were packed
MOST_STATISTICS = 256 * 2**20  # bytes of a mean or a covariance: the latter of 5,792 features
_LOCAL_HEADER = 30  # bytes of a zip member's own header before its name
_ENCRYPTED = 1  # the flag of a zip member
_HEAD = 2**16 + 2**8  # bytes in which the header of an npy has its place
_PIECE = 2**24  # bytes that are read at once
_HEADERS = {  # by the version of the npy format
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpzSamples:
    """The images or clips of a file as if they were the samples of a run.

    Attributes:
        path: the file.
        sha256: of the whole file.
        images: uint8 [N,H,W,3] or [N,T,H,W,3], read when they are looked at.
        names: none, so that they pair with others by their order.
    """

    names: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        given.check(path, fix="give an npz")
        problem, fix = f"is no npz with images in {IMAGES}", "write the file with numpy.savez"
        with given.decoding(str(path), problem, fix=fix):
            self.sha256 = local.sha256(path)
            self.images = _images(path, self.sha256)

    def __reduce__(self) -> tuple[type["NpzSamples"], tuple[Path]]:
        return NpzSamples, (self.path,)  # opened again in another process

    def __len__(self) -> int:
        return len(self.images)

    @property
    def clips(self) -> bool:
        """Whether they are clips."""
        return self.images.ndim == 5

    def hashes(self, n: int) -> list[str]:
        """What tells the first n images from others: the file and the place in it."""
        return [f"{self.sha256}/{i}" for i in range(n)]

    def read(self, index: int) -> np.ndarray:
        """An image, uint8 [H,W,3], or a clip, uint8 [T,H,W,3]."""
        return np.array(self.images[index])

    def meta(self, index: int) -> dict:
        """What an image was to show, which is not known."""
        return {}

    def place(self, index: int) -> str:
        """What an error calls an image."""
        return f"{self.path} sample {index}"

    def video(self, index: int) -> Path | None:
        """The video file that a sample is: none."""
        return None

    def lossy(self) -> str:
        """How their coding lost detail: it did not."""
        return ""


def statistics(path: Path, mean: str, covariance: str) -> tuple[np.ndarray, np.ndarray] | None:
    """A mean [d] and a covariance [d,d] of a file in float64, or None if it lacks one.

    Raises:
        UsageError: the file is damaged, or the two are no such things.
    """
    given.check(path, fix="give an npz")
    with given.decoding(str(path), "cannot be read"), zipfile.ZipFile(path) as archive:
        if not {f"{mean}.npy", f"{covariance}.npy"} <= set(archive.namelist()):
            return None
        mu, sigma = (_numbers(archive, name) for name in (mean, covariance))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise UsageError(
            f"{mean} {list(mu.shape)} and {covariance} {list(sigma.shape)} do not fit one another",
            place=str(path),
        )
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise UsageError(f"{mean} or {covariance} is not finite everywhere", place=str(path))
    if np.abs(sigma - sigma.T).max(initial=0) > 1e-3 * np.abs(sigma).max(initial=0):
        raise UsageError(f"{covariance} is not symmetric, so no covariance", place=str(path))
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


@functools.lru_cache(maxsize=2)  # an npz and its reference, for several metrics
def _images(path: Path, sha256: str) -> np.ndarray:
    """The images of a file of this content, in place; packed ones in a temporary file.

    Raises:
        UsageError: they are no images. Whatever else: the file is damaged.
    """
    flat: np.ndarray
    with zipfile.ZipFile(path) as archive:
        member = _member(archive, IMAGES)
        with archive.open(member) as content:
            shape, fortran, dtype, start = _header(content.read(_HEAD))
        if dtype != np.uint8 or len(shape) not in (4, 5) or shape[-1] != 3 or 0 in shape:
            raise UsageError(
                f"{IMAGES} is {dtype} {list(shape)}",
                place=str(path),
                fix="give images as uint8 [N,H,W,3], clips as uint8 [N,T,H,W,3]",
            )
        if member.file_size != start + math.prod(shape):
            raise ValueError(f"{IMAGES} has {member.file_size - start} bytes for {list(shape)}")
        if member.compress_type == zipfile.ZIP_STORED:
            with archive.open(member) as content:  # to its end, where its checksum is compared
                while content.read(_PIECE):
                    pass
            flat = np.memmap(path, mode="r", offset=_offset(path, member) + start)
            flat = flat[: math.prod(shape)]
        else:
            flat = _unpacked(archive, member)[start:]
    return flat.reshape(shape, order="F" if fortran else "C")


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """The bytes of a packed member, in a file that goes with them.

    Raises:
        UsageError: they are too many, or the disk has no room for them.
    """
    place, size = str(archive.filename), member.file_size
    fix = "write the file with numpy.savez, which packs nothing"
    if size > max(ANYWAY, MOST_PACKED * member.compress_size):
        raise UsageError(
            f"{member.filename} would unpack from {member.compress_size} to {size} bytes, more "
            f"than {MOST_PACKED} times as many, which images do not",
            place=place,
            fix=fix,
        )
    folder = tempfile.gettempdir()
    if size > (free := shutil.disk_usage(folder).free):
        problem = f"unpacks to {size} bytes, and {folder} has room for {free}"
        raise UsageError(problem, place=place, fix=fix)
    with tempfile.TemporaryFile() as whole, archive.open(member) as packed:
        shutil.copyfileobj(packed, whole, _PIECE)
        whole.flush()
        return np.memmap(whole, mode="r")


def _numbers(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """A small array of real numbers, in float64."""
    member = _member(archive, name)
    if member.file_size > MOST_STATISTICS:
        raise ValueError(f"{name} has {member.file_size} bytes, at most {MOST_STATISTICS} are read")
    data = archive.read(member)
    shape, fortran, dtype, start = _header(data[:_HEAD])
    if dtype.kind not in "fiu":
        raise ValueError(f"{name} is {dtype}, not real numbers")
    if len(data) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has {len(data) - start} bytes for {dtype} {list(shape)}")
    array = np.frombuffer(data, dtype, offset=start)
    return array.reshape(shape, order="F" if fortran else "C").astype(np.float64)


def _member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    member = archive.getinfo(f"{name}.npy")
    if member.flag_bits & _ENCRYPTED:
        raise ValueError(f"{name} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed in a way that numpy does not know")
    return member


def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether the first axis runs fastest, dtype and first byte of an npy that begins so."""
    content = io.BytesIO(head)
    version = np.lib.format.read_magic(content)
    if version not in _HEADERS:
        raise ValueError(f"its npy version {version} is not known")
    shape, fortran, dtype = _HEADERS[version](content)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    if not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, fortran, dtype, content.tell()


def _offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member that is not packed begin in the file."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        own = file.read(_LOCAL_HEADER)
    names, extra = (int.from_bytes(own[at : at + 2], "little") for at in (26, 28))
    return member.header_offset + _LOCAL_HEADER + names + extra
