"""Clips on disk: lossless (FFV1 in Matroska) for scoring, and a small mp4 to look at.

FFV1 codes the frames as RGB, without the detour over YUV that loses values. Files carry no date or
random identifier and are coded by one thread: the same frames give the same bytes under the same
FFmpeg.
"""

from pathlib import Path
from typing import IO, cast

import av
import numpy as np

PREVIEW_SIDE = 128  # the shorter side of a preview has at least this many pixels
_BITEXACT = {"fflags": "+bitexact"}


def write_clip(file: Path | IO[bytes], frames: np.ndarray, *, fps: int = 8) -> None:
    """Write frames, uint8 RGB [T, H, W, 3], so that `read_clip` returns the very same values."""
    with av.open(file, "w", format="matroska", container_options=_BITEXACT) as container:
        _encode(container, frames, fps=fps, codec="ffv1", pixels="bgr0", options={"level": "3"})


def read_clip(file: Path | IO[bytes]) -> np.ndarray:
    """Read a clip: uint8 RGB [T, H, W, 3].

    FFmpeg reads a truncated file without complaint and returns fewer frames; whether a file is
    whole is for its checksum to say (`store.py`).
    """
    with av.open(file, "r") as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def write_preview(file: Path | IO[bytes], frames: np.ndarray, *, fps: int = 8) -> None:
    """Write frames, uint8 RGB [T, H, W, 3], as an mp4 that every player shows; never score it.

    H.264 where this FFmpeg can write it, else MPEG-4. Frames with a side below 128 are enlarged by
    a whole factor, pixel by pixel; an odd side is padded with its last pixel, because 4:2:0 chroma
    needs even sides.
    """
    factor = -(-PREVIEW_SIDE // min(frames.shape[1:3]))
    frames = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = frames.shape[1:3]
    frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    codec, options = ("libx264", {"crf": "18"}) if _can_write("libx264") else ("mpeg4", {"b": "4M"})
    with av.open(file, "w", format="mp4", container_options=_BITEXACT) as container:
        _encode(container, frames, fps=fps, codec=codec, pixels="yuv420p", options=options)


def _encode(
    container: av.container.OutputContainer,
    frames: np.ndarray,
    *,
    fps: int,
    codec: str,
    pixels: str,
    options: dict[str, str],
) -> None:
    stream = cast(av.VideoStream, container.add_stream(codec, rate=fps, options=options))
    stream.height, stream.width = frames.shape[1:3]
    stream.pix_fmt = pixels
    stream.codec_context.thread_count = 1  # slices, and so bytes, follow the number of threads
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    for frame in frames:
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        container.mux(stream.encode(image.reformat(format=pixels)))
    container.mux(stream.encode())


def _can_write(codec: str) -> bool:
    try:
        av.Codec(codec, "w")
    except ValueError:
        return False
    return True
