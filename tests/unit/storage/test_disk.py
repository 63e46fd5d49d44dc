"""What the disk refuses is one line, and no file is left half-written."""

import errno
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save

from skipdit_cli.errors import StoreError
from skipdit_cli.storage import disk
from skipdit_cli.storage.disk import (
    append,
    check_writable,
    on_disk,
    read_json,
    read_metadata,
    remove_leftovers,
    replacing,
    write_whole,
)

FULL = "free some space and run the same command again: it continues"
UNUSABLE = "make the folder usable and run the same command again, or take another one"


def refusing(number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("number", "fix"), [(errno.ENOSPC, FULL), (errno.EDQUOT, FULL), (errno.EROFS, UNUSABLE)]
)
@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_what_was_there_stays(tmp_path, monkeypatch, number, fix, when):
    path = tmp_path / "new" / "a.json"
    write_whole(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, when, refusing(number))
        with pytest.raises(StoreError) as caught:
            write_whole(path, b"new")
    assert str(caught.value) == f"{path}: {os.strerror(number).lower()}; {fix}"
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == {"a.json": b"old"}
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_stream_that_breaks_off_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")

    def break_off():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            assert path.read_bytes() == b"old"
            raise error

    with pytest.raises(error):
        break_off()
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"a.npz": b"old"}
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(b"in ")
        file.write(b"portions")
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {
        "a.npz": b"in portions"
    }


def test_what_a_killed_process_leaves_has_its_number_and_is_found(tmp_path):
    """Two processes that write one file do not meet in the same half-written one."""
    with replacing(tmp_path / "a.png") as temporary:
        name = disk.HALF.fullmatch(temporary.name)
        assert (name["name"], int(name["pid"]), name["host"]) == (
            "a.png",
            os.getpid(),
            disk._host(),
        )
        temporary.write_bytes(b"half")
        remove_leftovers(tmp_path)
        assert not temporary.exists()
        temporary.write_bytes(b"whole")  # so that there is something to be put in place


def test_a_second_name_of_the_file_itself(tmp_path):
    """The operating system leaves both names where one is moved to the other."""
    path = tmp_path / "a"
    path.write_bytes(b"same")
    with replacing(path) as temporary:
        os.link(path, temporary)
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


# --- read again


def number(content):
    if not isinstance(content["number"], int):
        raise TypeError("it is not whole")
    return content["number"]


def read_number(path):
    return read_json(path, number, what="number", fix="write it again")


def test_what_is_written_is_read_again(tmp_path):
    assert read_number(tmp_path / "none" / "a.json") is None
    write_whole(tmp_path / "a.json", b'{"number": 7}')
    assert read_number(tmp_path / "a.json") == 7


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"number": 7', "Expecting"),
        (b"", "Expecting value"),
        (b"\xff\xfe\x00", "codec can't decode"),
        (b"[7]", r"it is not a mapping\)"),
        (b'{"colour": 7}', r"it has no 'number'\)"),
        (b'{"number": 7.5}', r"it is not whole\)"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(tmp_path, content, why):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=rf"^[^\n]+ \(.*{why}[^\n]*; write it again$") as caught:
        read_number(path)
    assert str(caught.value).startswith(f"{path}: is not a readable number (")


def test_a_disk_that_cannot_be_read_is_no_damage(tmp_path, monkeypatch):
    (tmp_path / "a.json").touch()
    monkeypatch.setattr(type(tmp_path), "read_bytes", refusing(errno.EIO))
    with pytest.raises(StoreError, match=r"a\.json: input/output error; make the folder"):
        read_number(tmp_path / "a.json")


def test_the_head_of_a_safetensors_file(tmp_path):
    path, latents = tmp_path / "a.safetensors", np.arange(6, dtype=np.float32).reshape(2, 3)
    assert read_metadata(path) == {}
    write_whole(path, save({"latents": latents}, metadata={"inputs": "ab"}))
    assert read_metadata(path) == {"inputs": "ab"}
    path.write_bytes(path.read_bytes()[:-1])
    assert read_metadata(path) == {}


def test_only_what_was_left_half_written_is_removed(tmp_path):
    keep = {".a.png.tmp", "a.12.tmp", ".mine.tmp", "a.png", ".12.tmp"}
    for name in (*keep, ".a.png.12.tmp"):
        (tmp_path / name).touch()
    (tmp_path / "previews").mkdir()
    (tmp_path / "previews" / ".b.mp4.7.tmp").touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == keep


def test_what_another_process_is_writing_stays(tmp_path):
    """A job of a queue goes on when its driver is gone, on this machine or on another one."""
    with subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE) as ended:
        pass
    alive, here = os.getppid(), disk._host()
    there = "0" * 8
    for name in (f"a.{alive}-{here}", f"a.{ended.pid}-{here}", f"b.7-{there}", f"c.7-{there}"):
        (tmp_path / f".{name}.tmp").touch()
    old = time.time() - disk.ABANDONED - 60
    os.utime(tmp_path / f".c.7-{there}.tmp", (old, old))
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f".a.{alive}-{here}.tmp",
        f".b.7-{there}.tmp",
    }


def test_what_is_kept_is_asked_only_where_something_is_lost(tmp_path):
    asked = []

    def kept():
        asked.append(1)
        return " (two are kept)"

    with on_disk(tmp_path, kept=kept):
        pass
    assert asked == []
    said = r"input/output error \(two are kept\); make"
    with pytest.raises(StoreError, match=said), on_disk(tmp_path, kept=kept):
        refusing(errno.EIO)()


def test_a_line_behind_a_torn_one_stands_alone(tmp_path):
    path = tmp_path / "journal"
    append(path, b"one\n")
    append(path, b"two\n")
    path.write_bytes(path.read_bytes() + b"to")
    append(path, b"three\n")
    assert path.read_bytes() == b"one\ntwo\nto\nthree\n"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_check_writable_finds_out_before_anything_is_computed(tmp_path, monkeypatch, number):
    check_writable(tmp_path / "new" / "results")
    assert list((tmp_path / "new" / "results").iterdir()) == []  # and leaves nothing
    monkeypatch.setattr(os, "open", refusing(number))
    with pytest.raises(StoreError) as caught:
        check_writable(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: {os.strerror(number).lower()}; ")


@pytest.mark.parametrize("folder", ["file", "file/results"])
def test_a_folder_that_is_a_file(tmp_path, folder):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(StoreError, match=f"^{tmp_path}/file: a file is where a folder should be"):
        check_writable(tmp_path / folder)
    assert (tmp_path / "file").read_text() == "precious"
