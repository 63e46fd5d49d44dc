"""Data sets of clips from the server of conftest.py, small: real ones become the reference."""

import io
import zipfile

import numpy as np
import pytest

from skipdit_cli.assets import clips
from skipdit_cli.metrics import Extractor, _i3d, _inception
from skipdit_cli.score import real_clips, real_videos
from skipdit_cli.storage import codec

FFS = "datasets/maxin-cn/FaceForensics"
ACCEPT = "--accept-license"


@pytest.fixture
def packed(tmp_path):
    """A zip of two clips of the training split, one of the test split, and what zips also hold."""
    levels = np.arange(46, dtype=np.uint8)[:, None, None, None]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for i, name in enumerate(("train/videos/a", "train/videos/b", "test/videos/c")):
            frames = np.broadcast_to(levels + 60 * i, (46, 8, 8, 3))
            codec.write_clip(tmp_path / "clip.mkv", np.ascontiguousarray(frames))
            archive.write(tmp_path / "clip.mkv", f"{name}.mkv")
        archive.writestr("__MACOSX/train/videos/._a.mkv", b"x")
        archive.writestr("train/list.txt", b"x")
    return file.getvalue()


@pytest.fixture
def sees_grey(monkeypatch):
    """Networks that see the grey value of frames."""

    def grey(seen):
        return np.stack([clip.mean(axis=(1, 2)) for clip in seen])

    def sees(name, see):
        return Extractor(name, 1, (), lambda networks, device: lambda seen: {name: see(seen)})

    monkeypatch.setattr(_i3d, "EXTRACTOR", sees("logits", lambda seen: grey(seen).mean(axis=1)))
    monkeypatch.setattr(_inception, "FRAMES", sees("pool", grey))
    monkeypatch.setattr(real_videos, "SIDE", 8)


def test_real_clips_of_the_hub_become_the_reference(hub, skipdit, failed, home, packed, sees_grey):
    hub.repositories[FFS] = {"README.md": b"x", "teaser.png": b"x", "FaceForensics.zip": packed}
    failed(skipdit("download --metrics ffs"), 2, "the licence of ffs is its authors'", ACCEPT)
    assert hub.requests == []
    hub.cut = len(packed) // 2
    failed(skipdit("download --metrics ffs", ACCEPT), 4, "broke off", "goes on from there")
    hub.cut = None
    done = skipdit("download --metrics ffs", ACCEPT)
    places = [home / "metrics" / "ffs" / f"{name}.npz" for name in ("released", "latte")]
    printed = [f"ffs/{path.stem} {path}" for path in places]
    assert (done.code, done.out.splitlines()) == (0, printed), done
    source = "ffs: maxin-cn/FaceForensics, of unknown size, licence its authors' terms"
    assert source in done.err
    unpacked = home / "downloads" / "clips" / "ffs" / "unpacked"
    found = sorted(path.name for path in unpacked.rglob("*") if path.is_file())
    assert found == ["a.mkv", "b.mkv"]  # of the training split
    with np.load(places[0]) as statistics:
        np.testing.assert_allclose(statistics["pool_mean"], 38, atol=1)  # (8 + 68) / 2
    hub.forget()
    again = skipdit("download --metrics ffs")  # it is here
    assert (again.code, again.out, hub.requests) == (0, done.out, [])
    assert real_clips.path("ffs/released") == places[0]


def test_originals_of_real_clips_can_be_deleted(hub, skipdit, home, packed, sees_grey):
    hub.repositories[FFS] = {"FaceForensics.zip": packed}
    assert skipdit("download --metrics ffs --delete-originals", ACCEPT).code == 0
    assert not (home / "downloads" / "clips" / "ffs").exists()
    assert real_clips.prepared("ffs")


def test_a_dry_run_and_a_set_of_another_kind(hub, skipdit, failed, table, sees_grey):
    name = clips.TRAINING
    hub.repositories["datasets/GuanjieChen/video_seg"] = {"a.mp4": b"1" * 9, "train/b.mp4": b"2"}
    rows = table(skipdit("download", name, "--dry-run").out)
    assert [(row["model"], row["size"], row["state"]) for row in rows] == [
        (name, "0.0 MB", "fetch")
    ]
    assert rows[0]["file"] == "GuanjieChen/video_seg/train/b.mp4"
    done = skipdit("download", name, ACCEPT)
    assert (done.code, done.out) == (0, f"{name} {clips.folder(clips.ON_HUB[name])}\n"), done
    hub.repositories[FFS] = {"README.md": b"x", "all.rar": b"x"}
    failed(
        skipdit("download --metrics ffs", ACCEPT),
        4,
        "maxin-cn/FaceForensics has neither clips nor archives of a known kind (but README.md",
        "--from FOLDER",
    )
    hub.repositories[FFS] = {"FaceForensics.zip": b"no zip"}
    failed(skipdit("download --metrics ffs", ACCEPT), 4, "cannot be unpacked", "--from FOLDER")
    assert not clips.here(clips.ON_HUB["ffs"])
