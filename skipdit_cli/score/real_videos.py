"""Frames of real videos: which of them count, and how they are brought to one size.

A video is a file, or a folder of frames in the order of their numbers; how they become pixels is in
`real_frames.py`. Frames are cut to their middle square, brought to 256x256 by Lanczos and coded as
JPEG of quality 75 (the official tools ask for 95 by a name that Pillow ignores). Where the tools
draw anew at each call, the draw here depends on SEED and the video's name.

Source: Skip-DiT class-to-video/tools; Latte tools; StyleGAN-V for both.
"""

import hashlib
import io
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from skipdit_cli.errors import UsageError, warn
from skipdit_cli.score import real_frames
from skipdit_cli.score.real_frames import IMAGES, UNREADABLE

VIDEOS = (".mp4", ".avi", ".mkv", ".webm", ".mov")
LENGTH = 16  # frames of a clip
CLIPS = 2048  # of FVD, one of each video; fewer where there are fewer videos
SIDE = 256  # pixels
JPEG_QUALITY = 75
SEED = 0


@dataclass(frozen=True)
class Preparation:
    """Which frames of a video count.

    Attributes:
        interval: from one frame of a clip to the next, in frames.
        first: how many frames, from the start of the video; None for all.
    """

    interval: int
    first: int | None = None

    @property
    def span(self) -> int:
        """Frames that a video must have."""
        return (LENGTH - 1) * self.interval + 1


def find(folder: Path) -> list[Path]:
    """The videos under a folder, by name: files, and folders that hold frames.

    What is hidden does not count, nor do images above videos, which are covers of them.

    Raises:
        UsageError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise UsageError("no such folder", place=str(folder), fix="give the folder of the videos")
    kinds = (*VIDEOS, *IMAGES)
    files = [
        each
        for each in folder.rglob("*")
        if each.suffix.lower() in kinds and not each.is_dir() and not _hidden(each, folder)
    ]
    videos = {each if each.suffix.lower() in VIDEOS else each.parent for each in files}
    videos -= {above for each in videos for above in each.parents}
    if not videos:
        raise UsageError(
            "holds no videos",
            place=str(folder),
            fix=f"give a folder of {', '.join(VIDEOS)} files, or of folders of frames",
        )
    return sorted(videos)


def chosen(videos: list[Path], how: Preparation, *, place: str) -> list[Path]:
    """Those videos, at most CLIPS, whose clips count: long enough, drawn by their names.

    Raises:
        UsageError: fewer than two are long enough, or one cannot be read.
    """
    drawn = sorted(videos, key=lambda video: _draw(video.name))
    long_enough = list(
        islice((video for video in drawn if length(video, how.span) >= how.span), CLIPS)
    )
    if len(long_enough) < 2:
        raise UsageError(
            f"fewer than two videos have {how.span} frames", place=place, fix="give whole videos"
        )
    return sorted(long_enough)


def clip(video: Path, how: Preparation, *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A clip of a video uint8 [16,256,256,3], and all frames that were looked at [T,256,256,3]."""
    there = length(video, how.first)
    start = int(_draw(name), 16) % (there - how.span + 1)
    wanted = range(start, start + how.span, how.interval)
    if how.first is not None:
        seen = first_frames(video, how.first)
        one = seen[wanted.start : wanted.stop : wanted.step]
    else:
        taken = islice(real_frames.frames(video), wanted.start, wanted.stop, wanted.step)
        seen = one = np.stack([_prepared(frame) for frame in taken])
    if len(one) != LENGTH:
        raise UsageError(f"{UNREADABLE} (it gives other frames each time)", place=str(video))
    return one, seen


def first_frames(video: Path, count: int | None) -> np.ndarray:
    """The first frames of a video, or all of them, as they count: uint8 [T,256,256,3].

    Raises:
        UsageError: it has none, or cannot be read.
    """
    prepared = [_prepared(frame) for frame in islice(real_frames.frames(video), count)]
    if not prepared:
        raise UsageError("has no frames", place=str(video), fix="give whole videos")
    return np.stack(prepared)


def length(video: Path, most: int | None = None) -> int:
    """How many frames a video has, of which no more than `most` are looked for.

    Those of a file are decoded: what its header says is no count, least of all in a file that was
    cut off.

    Raises:
        UsageError: it cannot be read.
    """
    counted = sum(1 for _ in islice(real_frames.decoded(video), most))
    if most is None or counted < most:
        said = real_frames.announced(video)
        if counted < 0.9 * said:
            warn(
                f"has {counted} frames, and its header tells of {said}",
                place=str(video),
                fix="it counts as it is; fetch it again if it was cut off",
            )
    return counted


def _hidden(path: Path, folder: Path) -> bool:
    """Whether a name of a path below a folder begins with a dot, as macOS's own copies do."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _prepared(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    from skipdit_cli.metrics._inception import square

    coded = io.BytesIO()
    Image.fromarray(square(frame, SIDE)).save(coded, format="JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(coded))


def _draw(name: str) -> str:
    return hashlib.sha256(f"{SEED}/{name}".encode()).hexdigest()
