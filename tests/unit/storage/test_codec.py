"""The lossless clip codec is lossless; the preview shows the same picture."""

import io

import av
import numpy as np
import pytest

from skipdit_cli.storage import codec


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def through_memory(frames: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    codec.write_clip(file, frames)
    return codec.read_clip(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize(
    "shape",
    [
        (8, 16, 16, 3),
        (3, 100, 100, 3),
        (5, 17, 31, 3),
        (1, 16, 16, 3),
        (1, 1, 1, 3),
        (16, 64, 2, 3),
    ],
)
def test_random_noise_survives_bit_by_bit(shape):
    frames = noise(*shape)
    read = through_memory(frames)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, frames)


def test_every_colour_survives():
    """All 2**24 colours in steps of 5 per channel, plus the ends: no rounding through YUV."""
    levels = np.unique(np.append(np.arange(0, 256, 5), 255)).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1)
    np.testing.assert_array_equal(through_memory(colours), colours)


def test_identical_frames_are_all_kept():
    frames = np.repeat(noise(1, 16, 16, 3), 6, axis=0)
    np.testing.assert_array_equal(through_memory(frames), frames)


def test_frames_need_not_be_contiguous():
    frames = noise(3, 16, 24, 3).transpose(0, 2, 1, 3)[:, ::-1]
    np.testing.assert_array_equal(through_memory(frames), frames)


def test_a_path_works_like_a_file_and_bytes_are_reproducible(tmp_path):
    frames, memory = noise(4, 20, 20, 3), io.BytesIO()
    codec.write_clip(memory, frames)
    codec.write_clip(tmp_path / "a.mkv", frames)
    codec.write_clip(tmp_path / "b.mkv", frames)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    assert (tmp_path / "a.mkv").read_bytes() == memory.getvalue()
    np.testing.assert_array_equal(codec.read_clip(tmp_path / "a.mkv"), frames)


def test_a_truncated_clip_loses_frames_in_silence():
    """Why the store checks sha256 before it decodes."""
    file = io.BytesIO()
    codec.write_clip(file, noise(8, 32, 32, 3))
    half = file.getvalue()[: len(file.getvalue()) // 2]
    assert 0 < len(codec.read_clip(io.BytesIO(half))) < 8


@pytest.mark.parametrize(
    ("side", "shown"), [((16, 16), (128, 128)), ((100, 100), (200, 200)), ((17, 31), (136, 248))]
)
def test_preview_is_enlarged_by_a_whole_factor(tmp_path, side, shown):
    frames = np.zeros((5, *side, 3), np.uint8)
    frames[:, : side[0] // 2] = 255
    codec.write_preview(tmp_path / "p.mp4", frames)
    preview = codec.read_clip(tmp_path / "p.mp4")
    assert preview.shape == (5, *shown, 3)
    factor = shown[0] // side[0]
    expected = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    assert np.abs(preview.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("name", ["h264", "mpeg4"])
def test_preview_codec_and_frame_rate(tmp_path, monkeypatch, name):
    if name == "mpeg4":
        monkeypatch.setattr(codec, "_can_write", lambda name: False)
    elif not codec._can_write("libx264"):
        pytest.skip("this FFmpeg has no libx264")
    frames = np.full((6, 129, 131, 3), 90, np.uint8)  # large enough, but odd: padded to even
    codec.write_preview(tmp_path / "p.mp4", frames, fps=12)
    with av.open(str(tmp_path / "p.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.frames) == (name, 12, 6)
        assert (stream.height, stream.width) == (130, 132)
        assert stream.pix_fmt == "yuv420p"


def test_an_unknown_encoder_is_noticed():
    assert codec._can_write("ffv1")
    assert not codec._can_write("no-such-codec")
