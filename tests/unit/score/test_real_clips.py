"""Real clips by hand: which frames of which videos count, and how they are coded."""

import io
import json
import os
import struct

import av
import numpy as np
import pytest
from PIL import Image

from skipdit_cli.errors import MissingAssetError, SkipditWarning, UsageError
from skipdit_cli.metrics import Extractor, _i3d, _inception
from skipdit_cli.score import real_clips, real_frames, real_videos
from skipdit_cli.storage import codec

RELEASED, LATTE = (real_clips.DATASETS["ffs"].preparations[name] for name in ("released", "latte"))


def video(path, length, side=(8, 8)):
    """Frame i of the video is grey of level 5 i."""
    frames = np.stack([np.full((*side, 3), 5 * i, np.uint8) for i in range(length)])
    path.parent.mkdir(parents=True, exist_ok=True)
    codec.write_clip(path, frames)
    return path


def levels(clip):
    return [round(float(frame.mean()) / 5) for frame in clip]


def test_the_protocols_are_those_of_the_tools():
    by_latte = {
        name: dataset.preparations["latte"].interval
        for name, dataset in real_clips.DATASETS.items()
    }
    assert by_latte == {"ffs": 3, "skytimelapse": 3, "taichi": 6, "ucf101": 3}
    assert (RELEASED.interval, RELEASED.first, RELEASED.span) == (1, 17, 16)
    assert (LATTE.first, LATTE.span) == (None, 46)
    assert (real_videos.CLIPS, real_videos.LENGTH, real_videos.SIDE) == (2048, 16, 256)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(real_videos, "SIDE", 16)


def test_released_takes_sixteen_of_the_first_seventeen_frames(tmp_path, small):
    path = video(tmp_path / "a.mkv", 40)
    starts = set()
    for name in "abcdefgh":
        clip, seen = real_videos.clip(path, RELEASED, name=name)
        first = levels(clip)[0]
        assert levels(clip) == list(range(first, first + 16))
        assert levels(seen) == list(range(17))
        starts.add(first)
    assert starts == {0, 1}


def test_latte_takes_every_third_frame_from_anywhere(tmp_path, small):
    path = video(tmp_path / "a.mkv", 50)
    starts = set()
    for name in "abcdefghijkl":
        clip, _ = real_videos.clip(path, LATTE, name=name)
        first = levels(clip)[0]
        assert levels(clip) == list(range(first, first + 46, 3))
        starts.add(first)
    assert starts <= {0, 1, 2, 3, 4}
    assert len(starts) > 2


def test_the_draw_depends_on_the_name_alone(tmp_path, small):
    path = video(tmp_path / "a.mkv", 50)
    one, two = (real_videos.clip(path, LATTE, name="x")[0] for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_frames_are_cut_to_the_middle_resized_and_coded_as_jpeg(tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    ours = real_videos._prepared(frame)
    resized = Image.fromarray(frame[:, 10:30]).resize((256, 256), Image.Resampling.LANCZOS)
    coded = io.BytesIO()
    resized.save(coded, format="JPEG")  # Pillow's default quality is 75
    np.testing.assert_array_equal(ours, np.asarray(Image.open(coded)))
    assert (ours != np.asarray(resized)).any()


def test_folders_of_frames_are_videos_too(tmp_path, small):
    folder = tmp_path / "sky" / "part" / "clip"
    folder.mkdir(parents=True)
    for i in range(17):
        Image.fromarray(np.full((8, 8, 3), 5 * i, np.uint8)).save(folder / f"{i:04d}.png")
    film = video(tmp_path / "sky" / "film.mkv", 20)
    assert real_videos.find(tmp_path / "sky") == [film, folder]
    assert levels(real_videos.clip(folder, RELEASED, name="c")[1]) == list(range(17))


def test_short_videos_do_not_count_and_the_number_is_limited(tmp_path, monkeypatch):
    videos = [video(tmp_path / f"{i}.mkv", 15 if i == 2 else 16) for i in range(6)]
    found = real_videos.chosen(videos, RELEASED, place="here")
    assert found == [each for i, each in enumerate(videos) if i != 2]
    monkeypatch.setattr(real_videos, "CLIPS", 3)
    some = real_videos.chosen(videos, RELEASED, place="here")
    assert len(some) == 3
    assert set(some) < set(found)
    with pytest.raises(UsageError, match="here: fewer than two videos have 46 frames"):
        real_videos.chosen(videos, LATTE, place="here")


def grey(level, side=8):
    return Image.fromarray(np.full((side, side, 3), level, np.uint8))


def folder_of(path, names, *, kind=lambda image: image):
    """Frame i is grey of level 5 i; `kind` makes another image of it."""
    path.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        kind(grey(5 * i)).save(path / name)
    return path


def test_frames_come_in_the_order_of_their_numbers(tmp_path, small):
    folder = folder_of(tmp_path / "a", [f"frame{i + 1}.png" for i in range(20)])
    assert levels(real_videos.first_frames(folder, 17)) == list(range(17))
    folder = folder_of(tmp_path / "b", [f"take 2, 1.{i}.png" for i in range(12)])
    assert levels(real_videos.first_frames(folder, None)) == list(range(12))


def deep(image):
    return Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257)


def palette(image):
    return image.convert("P", palette=Image.Palette.ADAPTIVE)


def opaque(image):
    image.putalpha(255)
    return image


def grey_with_alpha(image):
    return opaque(image.convert("L"))


@pytest.mark.parametrize("kind", [deep, palette, opaque, grey_with_alpha, lambda i: i.convert("L")])
def test_images_of_every_depth_have_the_same_levels(tmp_path, small, kind):
    folder = folder_of(tmp_path / "a", [f"{i}.png" for i in range(17)], kind=kind)
    assert levels(real_videos.first_frames(folder, 17)) == list(range(17))


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    Image.fromarray(np.array([[0, 128, 129, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert real_frames.image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 1, 255]


QUARTERS = np.array([[1, 2], [3, 4]], np.uint8).repeat(32, axis=0).repeat(32, axis=1) * 50


def quarters(pixels):
    """The levels of the four quarters of an image or frame, row by row."""
    seen = (pixels[16::32, 16::32, 0].astype(float) / 50).round()
    return seen.astype(int).tolist()


# How the eight ways to turn and mirror take the quarters, by their numbers in EXIF
UPRIGHT = {
    1: [[1, 2], [3, 4]],
    2: [[2, 1], [4, 3]],
    3: [[4, 3], [2, 1]],
    4: [[3, 4], [1, 2]],
    5: [[1, 3], [2, 4]],
    6: [[3, 1], [4, 2]],
    7: [[4, 2], [3, 1]],
    8: [[2, 4], [1, 3]],
}
# and by the matrix (a, b, c, d) of a video's file
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


@pytest.mark.parametrize("way", UPRIGHT)
def test_images_are_turned_as_their_camera_says(tmp_path, way):
    exif = Image.Exif()
    exif[0x0112] = way
    Image.fromarray(QUARTERS).convert("RGB").save(tmp_path / "a.jpg", exif=exif)
    assert quarters(real_frames.image(tmp_path / "a.jpg")) == UPRIGHT[way]


def encoded(path, frames, codec="libx264"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("way", MATRICES)
def test_videos_are_turned_as_their_file_says(tmp_path, way):
    path = encoded(tmp_path / "a.mp4", [QUARTERS[..., None].repeat(3, axis=2)] * 2, "mpeg4")
    whole = bytearray(path.read_bytes())
    place = whole.find(b"tkhd") + 44
    a, b, c, d = MATRICES[way]
    whole[place : place + 20] = struct.pack(">5i", *(x << 16 for x in (a, b, 0, c, d)))
    path.write_bytes(whole)
    assert [quarters(frame) for frame in real_frames.frames(path)] == [UPRIGHT[way]] * 2


def test_hidden_files_are_no_frames_and_no_videos(tmp_path, small):
    folder = folder_of(tmp_path / "a" / "clip", [f"{i:04d}.png" for i in range(17)])
    for name in ("._0000.png", ".0000.png", "._film.mkv"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07" + bytes(60))
    film = video(tmp_path / "a" / "film.mkv", 16)
    (tmp_path / "a" / "._film.mkv").write_bytes(b"?")
    folder_of(tmp_path / "a" / ".Trashes", ["1.png"])
    assert real_videos.find(tmp_path / "a") == [folder, film]
    assert levels(real_videos.first_frames(folder, 17)) == list(range(17))


def test_a_cover_beside_or_above_videos_is_none(tmp_path):
    films = [video(tmp_path / "a" / f"{i}.mkv", 2) for i in range(2)]
    clip = folder_of(tmp_path / "b" / "clip", ["0.png", "1.png"])
    for place in (tmp_path, tmp_path / "a", tmp_path / "b"):
        grey(50).save(place / "cover.jpg")
    assert real_videos.find(tmp_path) == [*films, clip]


def test_frames_whose_order_is_not_known(tmp_path):
    folder = folder_of(tmp_path / "a", ["1.png", "2.png", "cover.png"])
    with pytest.raises(UsageError, match=r"cover\.png: has no number, and [12]\.png beside it has"):
        real_videos.first_frames(folder, 17)
    folder = folder_of(tmp_path / "b", ["1.png", "1.jpg", "2.png"])
    with pytest.raises(UsageError, match=r"1\.jpg: is beside 1\.png; leave one of them"):
        real_videos.length(folder)


def cut(path, share=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def transparent(path):
    image = grey(50)
    image.putalpha(100)
    image.save(path)


def large(path):
    Image.new("1", (9000, 9000)).save(path)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "cannot be read as an image ("),
        (lambda path: path.write_bytes(b""), "cannot be read as an image (cannot identify"),
        (lambda path: grey(1).save(path, "GIF"), "cannot be read as an image (cannot identify"),
        (transparent, "cannot be read as an image (it is transparent in places"),
        (large, "cannot be read as an image (it is 9000x9000, at most 67108864 pixels are read)"),
        (pipe, "is a pipe, not a file"),
        (
            lambda path: path.unlink() or path.symlink_to("/dev/zero"),
            "is a device",
        ),
    ],
)
def test_a_frame_that_cannot_be_read_is_named(tmp_path, small, damage, said):
    folder = tmp_path / "a"
    folder.mkdir()
    for i in range(17):
        noise = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i:04d}.png")
    damage(folder / "0003.png")
    with pytest.raises(UsageError) as caught:
        real_videos.first_frames(folder, 17)
    assert str(caught.value).startswith(f"{folder / '0003.png'}: {said}")
    assert "\n" not in str(caught.value)


def test_frames_are_counted_by_decoding_them(tmp_path, small):
    """The header of an AVI that was cut off tells of frames that are not there."""
    noise = np.random.default_rng(0)
    frames = [np.full((64, 64, 3), 4 * i, np.uint8) for i in range(60)]
    for frame in frames:
        frame[8:24, :48] = noise.integers(0, 256, (16, 48, 3))
    path = encoded(tmp_path / "a.avi", frames, "mpeg4")
    assert (real_videos.length(path), real_videos.length(path, 17)) == (60, 17)
    cut(path, 0.6)
    with pytest.warns(SkipditWarning, match=r"a\.avi: has \d+ frames, and its header tells of 60"):
        there = real_videos.length(path)
    assert 16 < there < 46
    clip, _ = real_videos.clip(path, RELEASED, name="a")
    assert clip.shape == (16, 16, 16, 3)
    with pytest.raises(UsageError, match="fewer than two"), pytest.warns(SkipditWarning):
        real_videos.chosen([path, path], LATTE, place="here")


def test_videos_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    path = video(tmp_path / "a.mkv", 3)
    script = tmp_path / "b.mp4"
    script.write_text(f"ffconcat version 1.0\nfile {path.name}\n")  # names another file
    with pytest.raises(UsageError, match=r"b\.mp4: cannot be read as a video \(.*fetch it again"):
        real_videos.length(script)
    os.mkfifo(tmp_path / "c.mp4")
    with pytest.raises(UsageError, match=r"c\.mp4: is a pipe, not a file"):
        list(real_frames.frames(real_videos.find(tmp_path)[2]))
    monkeypatch.setattr(real_frames, "MOST_PIXELS", 63)
    with pytest.raises(UsageError, match=r"a\.mkv: cannot .* \(it is 8x8, at most 63 "):
        real_videos.length(path)


def test_errors_name_the_folder(tmp_path):
    with pytest.raises(UsageError, match="absent: no such folder"):
        real_videos.find(tmp_path / "absent")
    with pytest.raises(UsageError, match="holds no videos"):
        real_videos.find(tmp_path)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(UsageError, match=r"a\.mp4: cannot be read as a video"):
        real_videos.length(tmp_path / "a.mp4")


def test_what_is_not_prepared_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    with pytest.raises(MissingAssetError) as caught:
        real_clips.path("taichi/latte")
    assert "run `skipdit download --metrics taichi --accept-license`" in str(caught.value)
    with pytest.raises(MissingAssetError) as caught:
        real_clips.path("ucf101/latte")
    assert str(caught.value).endswith("run `skipdit download --metrics ucf101 --from FOLDER`")


def test_fid_sees_frames_of_all_videos_and_fvd_a_clip_of_some(tmp_path, monkeypatch, small):
    """As the tools do: FVD draws its clips, FID takes all real frames, of short videos too."""
    lengths = {"a": 40, "b": 40, "c": 16, "d": 5}
    for name, length in lengths.items():
        video(tmp_path / "videos" / f"{name}.mkv", length)
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    monkeypatch.setattr(real_videos, "CLIPS", 2)
    monkeypatch.setattr(real_clips.assets, "require", lambda name: tmp_path)
    told = []

    def logits(clips):
        return {"logits": np.stack([clip.mean(axis=(0, 1, 2)) for clip in clips])}

    def pool(clips):
        return {"pool": np.stack([clip.mean(axis=(1, 2)) for clip in clips])}

    for module, name, extract in ((_i3d, "EXTRACTOR", logits), (_inception, "FRAMES", pool)):
        load = Extractor(name, 1, (), lambda networks, device, extract=extract: extract)
        monkeypatch.setattr(module, name, load)
    made = real_clips.prepare("ffs", tmp_path / "videos", progress=lambda *said: told.append(said))
    record = json.loads(made["released"].with_suffix(".json").read_text())
    assert record["counts"] == {"logits": 2, "pool": 17 + 17 + 16 + 5}
    assert record["clips"] == 2
    level = 5 * (2 * sum(range(17)) + sum(range(16)) + sum(range(5))) / 55
    with np.load(made["released"]) as content:
        np.testing.assert_allclose(content["pool_mean"], level, atol=0.5)
    assert "46 frames" in str(made["latte"])
    assert told == [("real clips of ffs, released", 2, 2)] * 2  # clips, then the other videos
