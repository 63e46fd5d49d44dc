"""Files that a person names: what is no file, too large or unreadable is one line, and no wait."""

import os
import socket

import pytest

from skipdit_cli.errors import StoreError, UsageError
from skipdit_cli.storage import given


def fifo(path):
    os.mkfifo(path)


def sock(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))  # an absolute one may be too long


SPECIAL = {
    "pipe": (fifo, "is a pipe, not a file"),
    "socket": (sock, "is a socket, not a file"),
    "zero": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "folder": (lambda path: path.mkdir(), "is a folder, not a file"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "absent": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_file_is_refused_at_once(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make, said = SPECIAL[name]
    make(path := tmp_path / name)
    for call in (given.check, given.read_text):
        with pytest.raises(UsageError) as caught:
            call(path, fix="give one")
        assert str(caught.value) == f"{path}: {said}; give one"
        with pytest.raises(UsageError, match=f"^--prompts: {said}$"):
            call(path, place="--prompts")


@pytest.mark.parametrize(
    ("name", "reason"), [("a\0b", "embedded null byte"), ("n" * 300, "File name too long")]
)
def test_names_that_no_file_can_have(tmp_path, name, reason):
    with pytest.raises(UsageError, match=rf"cannot be read \({reason}\)$"):
        given.check(tmp_path / name)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    with pytest.raises(UsageError, match=r"cannot be read \(permission denied\)"):
        given.check(tmp_path / "a")


def test_the_size_is_looked_at_and_nothing_is_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(given.MOST + 1)  # takes no room
    with pytest.raises(UsageError, match="large: has 200000000001 bytes, and at most 200000000000"):
        given.check(tmp_path / "large")
    with (tmp_path / "text").open("wb") as file:
        file.truncate(given.MOST_TEXT + 1)
    with pytest.raises(UsageError, match="at most 64000000 are read"):
        given.read_text(tmp_path / "text")


def test_text(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\r\n\xc3\xa9")
    assert given.read_text(tmp_path / "a") == "a\r\né"
    (tmp_path / "a").write_bytes(b"\xff\xfea")
    with pytest.raises(UsageError, match=r"a: is not text in UTF-8; save it as that"):
        given.read_text(tmp_path / "a", fix="save it as that")


def test_what_a_reader_raises_becomes_one_line():
    def told(error):
        with (
            pytest.raises(UsageError) as caught,
            given.decoding("a.zip", "is damaged", fix="get it"),
        ):
            raise error
        return str(caught.value)

    assert told(ValueError("one\ntwo")) == "a.zip: is damaged (one); get it"
    assert told(EOFError()) == "a.zip: is damaged (EOFError); get it"
    assert (
        told(OSError(5, "Input/output error")) == "a.zip: is damaged (Input/output error); get it"
    )
    assert len(told(RuntimeError("x" * 1000))) < 200
    for own in (StoreError("the disk"), MemoryError(), KeyboardInterrupt()):
        with pytest.raises(type(own)) as caught, given.decoding("a.zip", "is damaged"):
            raise own
        assert caught.value is own
