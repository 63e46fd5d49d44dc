"""Real clips by hand: which frames of which videos count, and how they are coded."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.metrics import Extractor, _i3d, _inception
from skipdit_cli.score import real_clips, real_videos
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
    assert "run `skipdit download --metrics taichi --from FOLDER`" in str(caught.value)


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
