"""Archives of clips: which files of them are written, and what is refused."""

import io
import random
import struct
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from skipdit_cli.assets import _unpack, clips
from skipdit_cli.checkpoints._fetch import silent
from skipdit_cli.errors import MissingAssetError, StoreError
from skipdit_cli.score import real_videos

FILES = {
    "set/train/a.jpg": b"a" * 900,
    "set/train/b.jpg": random.Random(0).randbytes(900),
    "set/test/c.jpg": b"c" * 100,
}
HOSTILE = ("../out.jpg", "/out.jpg", "set/../../out.jpg", "__MACOSX/a.jpg", "set/._a.jpg")


def zipped(files, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def split(data, size):
    """What `zip -s` makes of a zip: parts, and a table of contents that counts within each."""
    end = data.rfind(b"PK\5\6")
    count, length, start = struct.unpack("<HLL", data[end + 10 : end + 20])
    table, at = bytearray(data[start : start + length]), 0
    for _ in range(count):
        names = sum(struct.unpack("<3H", table[at + 28 : at + 34]))
        (offset,) = struct.unpack("<L", table[at + 42 : at + 46])
        table[at + 34 : at + 36] = struct.pack("<H", offset // size)
        table[at + 42 : at + 46] = struct.pack("<L", offset % size)
        at += 46 + names
    disk, place = divmod(start, size)
    tail = bytearray(data[end:])
    tail[4:8], tail[16:20] = struct.pack("<HH", len(data) // size, disk), struct.pack("<L", place)
    whole = data[:start] + bytes(table) + bytes(tail)
    return [whole[i : i + size] for i in range(0, len(whole), size)]


def write(folder, data, *, size=500):
    *parts, last = split(data, size)
    for i, part in enumerate(parts, 1):
        (folder / f"set.z{i:02d}").write_bytes(part)
    (folder / "set.zip").write_bytes(last)
    return len(parts)


def unpacked(archive, folder, wanted=None):
    _unpack.unpack(archive, folder, set(wanted or _unpack.names(archive)), progress=silent)
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_whole_and_in_parts(tmp_path, method):
    data = zipped(FILES, method)
    (tmp_path / "one.zip").write_bytes(data)
    assert unpacked(tmp_path / "one.zip", tmp_path / "one") == FILES
    assert write(tmp_path, data) >= 2
    assert unpacked(tmp_path / "set.zip", tmp_path / "parts") == FILES
    some = clips.training_split(_unpack.names(tmp_path / "set.zip"))
    assert set(unpacked(tmp_path / "set.zip", tmp_path / "some", some)) == set(list(FILES)[:2])


def test_tar_and_what_is_no_plain_file(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("set/train/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert unpacked(tmp_path / "a.tar.gz", tmp_path / "out") == FILES


@pytest.mark.parametrize("parts", [False, True])
def test_nothing_is_written_outside(tmp_path, parts):
    data = zipped(dict.fromkeys(HOSTILE, b"x" * 99) | FILES)
    if parts:
        write(tmp_path, data)
    else:
        (tmp_path / "set.zip").write_bytes(data)
    assert unpacked(tmp_path / "set.zip", tmp_path / "in" / "deep") == FILES
    assert not list(tmp_path.rglob("out.jpg"))


def test_damage_is_told_in_one_line(tmp_path):
    data = zipped(FILES, zipfile.ZIP_STORED)
    count = write(tmp_path, data)
    middle = tmp_path / "set.z02"
    content = middle.read_bytes()
    middle.write_bytes(content[:100] + b"?" + content[101:])
    with pytest.raises(MissingAssetError, match=r"cannot be unpacked.*damaged.*--from FOLDER"):
        unpacked(tmp_path / "set.zip", tmp_path / "a")
    middle.unlink()
    with pytest.raises(MissingAssetError, match=r"there are only \[1, 3"):
        _unpack.names(tmp_path / "set.zip")
    (tmp_path / f"set.z{count:02d}").unlink()
    for name in ("b.zip", "b.tar"):
        (tmp_path / name).write_bytes(data[:1000])
        with pytest.raises(MissingAssetError, match=f"{name}: cannot be unpacked"):
            _unpack.names(tmp_path / name)


def test_a_full_disk_is_known_before_a_file_is_written(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped(FILES))
    monkeypatch.setattr(_unpack.shutil, "disk_usage", lambda path: SimpleNamespace(free=500))
    with pytest.raises(StoreError, match=r"needs 0\.0 MB and 0\.0 MB are free"):
        unpacked(tmp_path / "a.zip", tmp_path / "a")
    assert not [path for path in (tmp_path / "a").rglob("*") if path.is_file()]


def test_what_is_there_is_not_written_again(tmp_path):
    (tmp_path / "a.zip").write_bytes(zipped(FILES))
    unpacked(tmp_path / "a.zip", tmp_path / "a")
    first = tmp_path / "a" / "set/train/a.jpg"
    first.write_bytes(b"z" * 900)
    (tmp_path / "a" / "set/test/c.jpg").unlink()
    assert unpacked(tmp_path / "a.zip", tmp_path / "a")["set/train/a.jpg"] == b"z" * 900
    assert (tmp_path / "a" / "set/test/c.jpg").read_bytes() == FILES["set/test/c.jpg"]


def test_the_training_split():
    sky = ["s/sky_train/a/1.jpg", "s/sky_test/b/1.jpg", "s/train.mp4"]
    assert clips.training_split(sky) == sky[:1]
    assert clips.training_split(["b/2.mp4", "a/1.mp4"]) == ["a/1.mp4", "b/2.mp4"]
    assert clips.training_split(["train.zip", "test.zip"]) == ["train.zip"]
    assert set(clips.CLIPS) == {*real_videos.VIDEOS, *real_videos.IMAGES}
