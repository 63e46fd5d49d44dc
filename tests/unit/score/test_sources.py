"""What any tool made becomes samples: which files count, their order, and their pixels."""

import os
import pickle
import struct
import unicodedata
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from skipdit_cli.errors import UsageError
from skipdit_cli.score import sources
from skipdit_cli.storage import codec

CLIP = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 3), dtype=np.uint8)
FRAME = CLIP[0]


def images(folder, *names, pixels=FRAME):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(pixels).save(folder / name)
    return folder


def names(folder):
    return list(sources.opened(folder).names)


def test_images_come_in_the_order_of_their_numbers(tmp_path):
    files = ("img10.png", "img2.png", "img1.png", "b.png", "é 3.png", "日本.png")
    folder = images(tmp_path / "a", *files)
    for stray in (".DS_Store", ".hidden.png", "prompts.txt", "run.json"):
        (folder / stray).write_bytes(b"x")
    (folder / "features").mkdir()
    found = sources.opened(folder)
    assert list(found.names) == ["b", "img1", "img2", "img10", "é 3", "日本"]
    assert (len(found), found.clips, found.lossy()) == (6, False, "")
    assert found.place(2) == str(folder / "img2.png")
    for i in range(6):
        np.testing.assert_array_equal(found.read(i), FRAME)


def test_names_are_the_same_however_a_file_system_composes_their_letters(tmp_path):
    composed, apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    assert composed != apart
    assert names(images(tmp_path / "a", composed)) == names(images(tmp_path / "b", apart))


def test_a_pattern_names_files_in_several_folders(tmp_path):
    for kind in ("cat", "dog"):
        images(tmp_path / "a" / kind, "1.png", "2.png")
    found = sources.opened(tmp_path / "a" / "*" / "*.png")
    assert list(found.names) == ["cat/1", "cat/2", "dog/1", "dog/2"]
    assert sources.opened(tmp_path / "a" / "cat" / "1.png").names == ("1",)
    odd = images(tmp_path / "b[1]*", "1.png")  # what is there is no pattern
    assert names(odd) == ["1"]


def write_mkv(path):
    codec.write_clip(path, CLIP)


def write_npy(path):
    np.save(path, CLIP)


def write_frames(path):
    path.mkdir()
    for i, frame in enumerate(CLIP):
        Image.fromarray(frame).save(path / f"frame{i + 8}.png")  # 8, 9, 10: not in ASCII's order


@pytest.mark.parametrize(
    ("name", "write"), [("1.mkv", write_mkv), ("1.npy", write_npy), ("1", write_frames)]
)
def test_a_clip_is_a_video_an_array_or_a_folder_of_frames(tmp_path, name, write):
    write(tmp_path / name)
    found = sources.opened(tmp_path)
    assert (found.names, found.clips, found.lossy()) == (("1",), True, "")
    np.testing.assert_array_equal(found.read(0), CLIP)
    assert found.video(0) == (tmp_path / name if name == "1.mkv" else None)


def test_an_npz_of_clips(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=np.stack([CLIP, CLIP[::-1]]))
    found = sources.opened(tmp_path / "a.npz")
    assert (found.names, found.clips, len(found)) == ((), True, 2)
    again = pickle.loads(pickle.dumps(found))  # opened in another process
    np.testing.assert_array_equal(again.read(1), CLIP[::-1])
    assert again.hashes(2) == found.hashes(2)


def test_frames_of_a_gif_are_whole_and_it_loses_colours(tmp_path):
    """The second frame is stored as what differs from the first, around it transparent."""
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[:, 4 * i : 4 * i + 4] = (255, 0, 0)
        frame[0] = (0, 255, 0)
    first, *rest = map(Image.fromarray, frames)
    first.save(tmp_path / "1.gif", save_all=True, append_images=rest, duration=100)
    found = sources.opened(tmp_path)
    assert (found.clips, found.lossy()) == (True, "GIF")
    np.testing.assert_array_equal(found.read(0), frames)


def lossy_video(path, codec_name="libx264", pixels="yuv420p", colours=(1, 5)):
    """A smooth clip, with what its file says of range and matrix of the colours."""
    ramp = np.stack([np.tile(np.linspace(0, 255, 32), (32, 1))] * 3, axis=-1).astype(np.uint8)
    ramp[..., 1] = ramp[..., 1].T
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec_name, rate=8)
        stream.width = stream.height = 32
        stream.pix_fmt = pixels
        stream.codec_context.color_range, stream.codec_context.colorspace = colours
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(ramp, format="rgb24").reformat(
                format=pixels, dst_color_range=colours[0], dst_colorspace=colours[1]
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return ramp


@pytest.mark.parametrize("colours", [(1, 5), (1, 1), (2, 5), (2, 1), (0, 2)])
def test_range_and_matrix_of_colours_are_those_that_the_file_says(tmp_path, colours):
    """Limited or full range, BT.601 or BT.709: another one would be off by ten levels and more.

    Where a file says nothing (0, 2), it is the first of these.
    """
    ramp = lossy_video(tmp_path / "1.mkv", "ffv1", "yuv444p", colours)
    found = sources.opened(tmp_path)
    assert np.abs(found.read(0).astype(int) - ramp).max() <= 3
    assert found.lossy() == "ffv1 in yuv444p"  # no coder of RGB


def test_what_loses_detail_is_named(tmp_path):
    lossy_video(tmp_path / "1.mp4")
    assert sources.opened(tmp_path / "1.mp4").lossy() == "h264 in yuv420p"
    for name, lossless, expected in (
        ("a.jpg", {}, "JPEG"),
        ("b.webp", {}, "WebP"),
        ("c.webp", {"lossless": True, "exact": True}, ""),
        ("d.png", {}, ""),
    ):
        Image.fromarray(FRAME).save(tmp_path / name, **lossless)
        assert sources.opened(tmp_path / name).lossy() == expected
    np.testing.assert_array_equal(sources.opened(tmp_path / "c.webp").read(0), FRAME)


def rgba(path, alpha):
    Image.fromarray(np.dstack([FRAME, np.full(FRAME.shape[:2], alpha, np.uint8)])).save(path)


def test_pixels_of_every_mode(tmp_path):
    grey = FRAME[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(FRAME).quantize(256).save(tmp_path / "palette.png")
    rgba(tmp_path / "opaque.png", 255)
    turned = Image.Exif()
    turned[0x0112] = 6  # its camera was held upright
    Image.fromarray(FRAME).save(tmp_path / "turned.png", exif=turned)
    seen = {name: sources.opened(tmp_path / f"{name}.png").read(0) for name in ("grey", "deep")}
    for pixels in seen.values():
        np.testing.assert_array_equal(pixels, np.dstack([grey] * 3))
    palette = sources.opened(tmp_path / "palette.png").read(0)
    assert (palette.shape, palette.dtype) == (FRAME.shape, np.uint8)
    np.testing.assert_array_equal(sources.opened(tmp_path / "opaque.png").read(0), FRAME)
    upright = sources.opened(tmp_path / "turned.png").read(0)
    np.testing.assert_array_equal(upright, np.rot90(FRAME, k=-1))


def test_levels_of_deep_colours_are_cut(tmp_path):
    deep = (FRAME.astype(np.uint16) * 256 + 255).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    height, width, _ = FRAME.shape
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    with (tmp_path / "1.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in parts:
            file.write(struct.pack(">I", len(data)) + kind + data)
            file.write(struct.pack(">I", zlib.crc32(kind + data)))
    np.testing.assert_array_equal(sources.opened(tmp_path).read(0), FRAME)


def pickled(path):
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


def zipped(path):
    with path.open("wb") as file:
        np.savez(file, arr_0=CLIP)


def animated(path):
    Image.fromarray(FRAME).save(path, save_all=True, append_images=[Image.fromarray(CLIP[1])])


BAD = {
    "cut.png": (
        lambda path: (Image.fromarray(FRAME).save(path), os.truncate(path, 900)),
        "cannot be read as an image",
    ),
    "web.png": (lambda path: path.write_text("<html>"), "cannot be read as an image"),
    "glass.png": (lambda path: rgba(path, 128), "it is transparent in places"),
    "moves.webp": (animated, "it is an animation"),
    "code.npy": (pickled, "cannot be read as an npy (Array can't be memory-mapped"),
    "zip.npy": (zipped, "cannot be read as an npy"),
    "real.npy": (lambda path: np.save(path, FRAME / 255), "is float64 [24, 32, 3]; give an image"),
    "web.mp4": (lambda path: path.write_text("<html>"), "cannot be read as a video"),
    "empty.gif": (lambda path: path.touch(), "cannot be read as a video"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_none_is_named(tmp_path, name):
    write, problem = BAD[name]
    write(tmp_path / name)
    with pytest.raises(UsageError) as caught:
        sources.opened(tmp_path).read(0)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def two_sizes(path):
    images(path / "clip", "1.png")
    images(path / "clip", "2.png", pixels=FRAME[:20])


def many_frames(path):
    images(path / "clip", "1.png", "2.png", "3.png")


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (two_sizes, "clip: has frames of 32x24 and 32x20; "),
        (many_frames, "clip: has more than 2 frames of 32x24; give shorter clips"),
    ],
)
def test_a_clip_that_is_none(tmp_path, monkeypatch, write, problem):
    monkeypatch.setattr(sources, "MOST_CLIP", FRAME.nbytes)
    write(tmp_path)
    with pytest.raises(UsageError) as caught:
        sources.opened(tmp_path).read(0)
    assert problem in str(caught.value)


def test_a_video_that_was_cut_off(tmp_path, monkeypatch):
    write_mkv(tmp_path / "1.mkv")
    monkeypatch.setattr(sources.real_frames, "announced", lambda path: 16)
    with pytest.raises(UsageError, match=r"1\.mkv: has 5 frames, and its header tells of 16; "):
        sources.opened(tmp_path).read(0)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("absent", "--samples absent: no such file or folder; give a folder of .jpg, "),
        ("x" * 300, ": cannot be read (File name too long)"),
        ("empty", "--samples empty: holds no images or clips; "),
        ("none/*.png", "none/*.png: holds no images or clips; "),
        ("both", "a.png: is an image, and b.gif is a clip; give them apart"),
        ("twice", "a.jpg: has the same name as a.png, beside it; leave one of them"),
        ("note.txt", "note.txt: is no npz with images in arr_0"),
    ],
)
def test_a_place_without_samples(tmp_path, monkeypatch, given, problem):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    images(Path("both"), "a.png", "b.gif")
    images(Path("twice"), "a.png", "a.jpg")
    Path("note.txt").write_text("hello")
    with pytest.raises(UsageError) as caught:
        sources.opened(Path(given), place="--samples")
    assert problem in str(caught.value)


def test_what_tells_samples_from_others_is_their_content(tmp_path):
    one, same = (images(tmp_path / name, "1.png", "2.png") for name in "ab")
    assert sources.sha256(one) == sources.sha256(same)
    images(same, "2.png", pixels=CLIP[1])
    assert sources.sha256(one) != sources.sha256(same)
    frames = tmp_path / "frames"
    write_frames_of = frames / "1"
    frames.mkdir()
    write_frames(write_frames_of)
    before = sources.sha256(frames)
    Image.fromarray(CLIP[4]).save(write_frames_of / "frame8.png")
    assert sources.sha256(frames) != before
