"""Frames of real videos: which of them count, and how they are brought to one size.

A video is a file, or a folder of frames. Frames are cut to their middle square, brought to 256x256
by Lanczos and coded as JPEG of quality 75 (the official tools ask for 95 by a name that Pillow
ignores). Where the tools draw anew at each call, the draw here depends on SEED and the video's
name.

Source: Skip-DiT class-to-video/tools; Latte tools; StyleGAN-V for both.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from skipdit_cli.errors import UsageError

VIDEOS = (".mp4", ".avi", ".mkv", ".webm", ".mov")
IMAGES = (".jpg", ".jpeg", ".png")
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

    Raises:
        UsageError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise UsageError("no such folder", place=str(folder), fix="give the folder of the videos")
    files = [each for each in folder.rglob("*") if each.suffix.lower() in (*VIDEOS, *IMAGES)]
    videos = {each if each.suffix.lower() in VIDEOS else each.parent for each in files}
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
        UsageError: fewer than two are long enough.
    """
    drawn = sorted(videos, key=lambda video: _draw(video.name))
    long_enough = list(islice((video for video in drawn if length(video) >= how.span), CLIPS))
    if len(long_enough) < 2:
        raise UsageError(
            f"fewer than two videos have {how.span} frames", place=place, fix="give whole videos"
        )
    return sorted(long_enough)


def clip(video: Path, how: Preparation, *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A clip of a video uint8 [16,256,256,3], and all frames that were looked at [T,256,256,3]."""
    last = min(length(video), how.first or 10**9) - how.span
    start = int(_draw(name), 16) % (last + 1)
    wanted = range(start, start + how.span, how.interval)
    if how.first is not None:
        seen = first_frames(video, how.first)
        return seen[wanted.start : wanted.stop : wanted.step], seen
    taken = islice(frames(video), wanted.start, wanted.stop, wanted.step)
    one = np.stack([_prepared(frame) for frame in taken])
    return one, one


def first_frames(video: Path, count: int | None) -> np.ndarray:
    """The first frames of a video, or all of them, as they count: uint8 [T,256,256,3].

    Raises:
        UsageError: it has none, or cannot be read.
    """
    prepared = [_prepared(frame) for frame in islice(frames(video), count)]
    if not prepared:
        raise UsageError("has no frames", place=str(video), fix="give whole videos")
    return np.stack(prepared)


def frames(video: Path) -> Iterator[np.ndarray]:
    """The frames of a video, uint8 [H,W,3]."""
    if video.is_dir():
        from PIL import Image

        for file in _images(video):
            yield np.asarray(Image.open(file).convert("RGB"))
        return
    import av

    try:
        with av.open(str(video)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (av.error.FFmpegError, IndexError) as error:
        raise UsageError(f"cannot be read as a video ({error})", place=str(video)) from None


def length(video: Path) -> int:
    """How many frames a video has."""
    if video.is_dir():
        return len(_images(video))
    import av

    try:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            return stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
    except (av.error.FFmpegError, IndexError) as error:
        raise UsageError(f"cannot be read as a video ({error})", place=str(video)) from None


def _images(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.suffix.lower() in IMAGES)


def _prepared(frame: np.ndarray) -> np.ndarray:
    from PIL import Image

    from skipdit_cli.metrics._inception import square

    coded = io.BytesIO()
    Image.fromarray(square(frame, SIDE)).save(coded, format="JPEG", quality=JPEG_QUALITY)
    return np.asarray(Image.open(coded))


def _draw(name: str) -> str:
    return hashlib.sha256(f"{SEED}/{name}".encode()).hexdigest()
