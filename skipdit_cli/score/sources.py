"""Images and clips that any tool made, as if they were the samples of a run.

They are named by a place: a folder, a file, a pattern in quotes, or an npz as `storage/npz.py` has
it. In a folder each image is a sample, or each clip: a video, a GIF, an array in .npy; where there
are no such files, each folder of images in it is a clip of these frames. They come in the order of
the numbers in their names (img2 before img10). What is hidden, and files of other kinds, do not
count. How files become pixels is in `real_frames.py`.
"""

import glob
import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Metric
from skipdit_cli.score import real_frames
from skipdit_cli.score.real_frames import FIX, IMAGES
from skipdit_cli.score.real_videos import VIDEOS
from skipdit_cli.storage import given
from skipdit_cli.storage.npz import NpzSamples

READING = 1  # goes up when files are read in another way: what was scored of them is scored again
NPZ, ARRAY, GIF = ".npz", ".npy", ".gif"
CLIPS = (*VIDEOS, GIF)
MOST_CLIP = 2**32  # bytes of the pixels of a clip
LOSSLESS = ("ffv1", "ffvhuff", "huffyuv", "png", "rawvideo", "utvideo", "qtrle", "magicyuv")
FILES = (*IMAGES, *CLIPS, ARRAY)
KINDS = f"{', '.join(FILES)}, or folders of frames"


TASKS = {False: {"c2i", "t2i"}, True: {"c2v", "t2v"}}  # by whether their samples are clips


class Samples(Protocol):
    """A run's samples, or what another tool made."""

    @property
    def path(self) -> Path: ...
    def hashes(self, n: int) -> list[str]: ...
    def read(self, index: int) -> np.ndarray: ...
    def meta(self, index: int) -> dict[str, Any]: ...
    def place(self, index: int) -> str: ...


class Source(Samples, Protocol):
    """Samples that a person named.

    Attributes:
        path: what was named.
        sha256: of all that is in them.
        clips: whether they are clips; else images.
        names: what they are called, without endings; none where they have no names.
    """

    @property
    def sha256(self) -> str: ...
    @property
    def clips(self) -> bool: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    def __len__(self) -> int: ...
    def video(self, index: int) -> Path | None: ...
    def lossy(self) -> str: ...


@dataclass(frozen=True)
class FileSamples:
    """Files, or folders of frames, one for each sample; as `Source`."""

    path: Path
    files: tuple[Path, ...]
    names: tuple[str, ...]
    clips: bool

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256("\n".join([str(READING), *self._hashes]).encode()).hexdigest()

    @cached_property
    def _hashes(self) -> list[str]:
        return [_sha256(file) for file in self.files]

    def hashes(self, n: int) -> list[str]:
        """The sha256 of the first n files, of a folder that of its frames'."""
        return self._hashes[:n]

    def read(self, index: int) -> np.ndarray:
        """An image, uint8 [H,W,3], or a clip, uint8 [T,H,W,3].

        Raises:
            UsageError: it cannot be read, and is named.
        """
        file = self.files[index]
        if file.suffix.lower() == ARRAY:
            return np.array(_array(file))
        return clip(file) if self.clips else real_frames.image(file)

    def meta(self, index: int) -> dict[str, Any]:
        """What a sample was to show, which no file tells."""
        return {}

    def place(self, index: int) -> str:
        """What an error calls a sample."""
        return str(self.files[index])

    def video(self, index: int) -> Path | None:
        """The video file that a sample is; None if it is something else."""
        file = self.files[index]
        return file if file.suffix.lower() in VIDEOS and not file.is_dir() else None

    def lossy(self) -> str:
        """How detail was lost when files were coded: "h264", "JPEG"; "" where none was."""
        first = {each.suffix.lower(): each for each in reversed(self.files)}  # of every ending
        return ", ".join(filter(None, dict.fromkeys(map(_lossy, first.values()))))


def opened(path: Path, *, place: str = "") -> Source:
    """The samples in a place.

    Args:
        place: the option that names it, for errors.
    Raises:
        UsageError: there are none, some are of another kind than the others, or two have one name.
    """
    with given.decoding(str(path), "cannot be read"):  # its name may be too long, or not for us
        if is_npz(path):
            return NpzSamples(path)
        root, found = _found(path)
    if not found:
        fix = f"give a folder of {KINDS}; an npz; or a pattern in quotes"
        there = path.exists() or _is_pattern(path)
        problem = "holds no images or clips" if there else "no such file or folder"
        raise UsageError(problem, place=f"{place} {path}".strip(), fix=fix)
    named = {each: _name(each, root) for each in found}
    files = sorted(found, key=lambda each: (real_frames.natural(named[each]), each.name))
    for one, two in pairwise(files):
        if named[one] == named[two]:
            problem = f"has the same name as {two.name}, beside it"
            raise UsageError(problem, place=str(one), fix="leave one of them")
    kinds = {each: _is_clip(each) for each in files}
    if len(set(kinds.values())) > 1:
        one, two = (next(each for each in files if kinds[each] is kind) for kind in (False, True))
        problem = f"is an image, and {two.name} is a clip"
        raise UsageError(problem, place=str(one), fix="give them apart")
    names = tuple(named[each] for each in files)
    return FileSamples(path, tuple(files), names, kinds[files[0]])


def takes(metric: Metric, *, clips: bool) -> bool:
    """Whether a metric is of clips, or of images."""
    return bool(TASKS[clips] & set(metric.TASKS))


def is_npz(path: Path) -> bool:
    """Whether a place is an npz: by its ending, or a file with none that is known."""
    suffix = path.suffix.lower()
    if suffix in (*FILES, NPZ) or _is_pattern(path):
        return suffix == NPZ and not _is_pattern(path)
    return path.exists() and not path.is_dir()


def _is_pattern(path: Path) -> bool:
    return glob.has_magic(str(path)) and not path.exists()


def sha256(path: Path) -> str:
    """What tells what is in a place from anything else; of an npz it may be statistics alone.

    Raises:
        UsageError: as `opened`.
    """
    if not is_npz(path):
        return opened(path).sha256
    given.check(path, fix="give an npz")
    return local.sha256(path)


def clip(path: Path) -> np.ndarray:
    """All frames of a video, a GIF or a folder, uint8 [T,H,W,3].

    Raises:
        UsageError: it cannot be read, was cut off, or has frames of several sizes or too many.
    """
    frames: list[np.ndarray] = []
    for frame in real_frames.frames(path):
        if frames and frame.shape != frames[0].shape:
            sizes = f"{_size(frames[0])} and {_size(frame)}"
            raise UsageError(f"has frames of {sizes}", place=str(path), fix=FIX)
        if len(frames) * frame.nbytes > MOST_CLIP:
            problem = f"has more than {len(frames)} frames of {_size(frame)}"
            raise UsageError(problem, place=str(path), fix="give shorter clips")
        frames.append(frame)
    said = real_frames.announced(path) if path.suffix.lower() in VIDEOS else 1
    if len(frames) < 0.9 * said:  # as for videos of real data
        problem = f"has {len(frames)} frames, and its header tells of {said}"
        raise UsageError(problem, place=str(path), fix=FIX)
    if not frames:
        raise UsageError("has no frames", place=str(path), fix=FIX)
    return np.stack(frames)


def _found(path: Path) -> tuple[Path, list[Path]]:
    """The folder that names begin in, and the samples in it, in no order."""
    if path.is_dir():
        inside = [each for each in path.iterdir() if not each.name.startswith(".")]
        files = [each for each in inside if _is_file(each)]
        return path, files or [each for each in inside if _holds_frames(each)]
    if not _is_pattern(path):
        return path.parent, [path] if _is_file(path) else []
    plain = path.parts[: _first_magic(path.parts)]
    matching = [Path(each) for each in glob.glob(str(path), recursive=True)]
    return Path(*plain), [each for each in matching if _is_file(each) or _holds_frames(each)]


def _first_magic(parts: Iterable[str]) -> int:
    return next(i for i, part in enumerate(parts) if glob.has_magic(part))


def _is_file(path: Path) -> bool:
    return path.suffix.lower() in FILES and path.exists() and not path.is_dir()


def _holds_frames(path: Path) -> bool:
    return path.is_dir() and any(each.suffix.lower() in IMAGES for each in path.iterdir())


def _name(path: Path, root: Path) -> str:
    """What a sample is called: the same letters in whatever way a file system composes them."""
    name = path.relative_to(root)
    text = (name if path.is_dir() else name.with_suffix("")).as_posix()
    return unicodedata.normalize("NFC", text)


def _is_clip(path: Path) -> bool:
    if path.suffix.lower() == ARRAY:
        return _array(path).ndim == 4
    return path.is_dir() or path.suffix.lower() in CLIPS


def _array(path: Path) -> np.ndarray:
    """A sample in an npy, not yet read."""
    given.check(path, fix=FIX)
    with given.decoding(str(path), "cannot be read as an npy", fix=FIX):
        array: np.ndarray = np.lib.format.open_memmap(path, mode="r")  # which takes no objects
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
        problem = f"is {array.dtype} {list(array.shape)}"
        fix = "give an image as uint8 [H,W,3], a clip as uint8 [T,H,W,3]"
        raise UsageError(problem, place=str(path), fix=fix)
    return array


def _sha256(path: Path) -> str:
    if path.is_dir():
        frames = "\n".join(map(_sha256, real_frames.images(path)))
        return hashlib.sha256(frames.encode()).hexdigest()
    given.check(path, fix=FIX)
    with given.decoding(str(path), "cannot be read", fix=FIX):
        return local.sha256(path)


def _lossy(path: Path) -> str:
    """How a file lost detail when it was coded."""
    if path.is_dir():
        return ", ".join(dict.fromkeys(filter(None, map(_lossy, real_frames.images(path)[:1]))))
    suffix = path.suffix.lower()
    if suffix in VIDEOS:
        codec, pixels = real_frames.coding(path)
        exact = codec in LOSSLESS and not pixels.startswith(("yuv", "nv"))
        return "" if exact else f"{codec} in {pixels}"
    if suffix == ".webp":
        with given.decoding(str(path), "cannot be read", fix=FIX), path.open("rb") as file:
            return "" if b"VP8L" in file.read(64) else "WebP"
    return {".jpg": "JPEG", ".jpeg": "JPEG", GIF: "GIF"}.get(suffix, "")


def _size(frame: np.ndarray) -> str:
    return f"{frame.shape[1]}x{frame.shape[0]}"
