"""Unpack archives of clips: zip, zip in parts (NAME.z01, ..., NAME.zip) and tar.

Only plain files of the names that are asked for are written, none of them outside the folder, and
none that the disk has no room for. Python's zipfile reads no zip in parts, so the parts are read
here by the format's own table of contents (PKWARE's APPNOTE, 4.3 and 4.5.3).
"""

import io
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from skipdit_cli.checkpoints import local
from skipdit_cli.checkpoints._fetch import Progress
from skipdit_cli.errors import MissingAssetError, StoreError
from skipdit_cli.storage.disk import on_disk, replacing

_TAR = (".tar", ".tar.gz", ".tgz")
_PART = re.compile(r"\.z\d\d+$")
_BLOCK = 1 << 20
_UNSET = 0xFFFFFFFF  # of a number that stands in an entry's extra field
_LARGEST = 1 << 31  # bytes of a file of a zip in parts, which is unpacked in memory


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name there, its bytes, and what opens it."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def is_whole(name: str) -> bool:
    """Whether a name is that of an archive, or of the last of its parts."""
    return name.lower().endswith((".zip", *_TAR))


def is_archive(name: str) -> bool:
    """Whether a name is that of an archive or of a part of one."""
    return is_whole(name) or _PART.search(name.lower()) is not None


def safe(name: str) -> bool:
    """Whether a name stays in its folder and is nothing that an operating system left behind."""
    path = PurePosixPath(name.replace("\\", "/"))
    odd = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not odd and not path.is_absolute() and "\0" not in name


def names(archive: Path) -> list[str]:
    """The safe names of the plain files in an archive.

    Raises:
        MissingAssetError: it is damaged, or packed as it cannot be read here.
    """
    with _opened(archive) as members:
        return [member.name for member in members]


def unpack(archive: Path, folder: Path, wanted: set[str], *, progress: Progress) -> None:
    """Write the wanted files of an archive into a folder; those that are there are kept.

    Raises:
        MissingAssetError: the archive is damaged, or packed as it cannot be read here.
        StoreError: the disk is full or cannot be written.
    """
    done = 0
    with _opened(archive) as members:
        for member in members:
            if member.name not in wanted:
                continue
            done += 1
            progress(f"unpacking {archive.name}", done, len(wanted))
            target = folder / member.name
            if target.is_file() and target.stat().st_size == member.size:
                continue
            with on_disk(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                free = shutil.disk_usage(target.parent).free
                if member.size > free:
                    raise StoreError(
                        f"{member.name} of {archive.name} needs {local.size_text(member.size)} and "
                        f"{local.size_text(free)} are free",
                        place=str(folder),
                        fix="free some space and run the same command again: it continues",
                    )
            _write(member, target)


def _write(member: Member, target: Path) -> None:
    with member.open() as source, on_disk(target), replacing(target) as temporary:
        with open(temporary, "wb") as output:
            shutil.copyfileobj(source, output, _BLOCK)
        if (size := temporary.stat().st_size) != member.size:
            raise zipfile.BadZipFile(f"{member.name} has {size} bytes, not {member.size}")


@contextmanager
def _opened(archive: Path) -> "Iterator[Iterator[Member]]":
    """The members of an archive with safe names; what is wrong with it is told in one line."""
    try:
        with ExitStack() as stack:
            if archive.name.lower().endswith(_TAR):
                yield _of_tar(stack.enter_context(tarfile.open(archive)))
            elif parts := _parts(archive):
                yield _of_parts(stack.enter_context(_Joined(parts)))
            else:
                yield _of_zip(stack.enter_context(zipfile.ZipFile(archive)))
    except (
        *(zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError),
        *(NotImplementedError, RuntimeError, UnicodeDecodeError),
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise MissingAssetError(
            f"cannot be unpacked ({reason})",
            place=str(archive),
            fix="unpack it by hand, and give the folder with --from FOLDER",
        ) from None


def _of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        kind = info.external_attr >> 28  # of a file of Unix: 8 is a plain one, 0 is not told
        if not info.is_dir() and kind in (0, 8) and safe(info.filename):
            yield Member(info.filename, info.file_size, partial(archive.open, info))


def _of_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    def opened(info: tarfile.TarInfo) -> IO[bytes]:
        file = archive.extractfile(info)
        if file is None:
            raise tarfile.TarError(f"{info.name} is no plain file")
        return file

    for info in archive:
        if info.isreg() and safe(info.name):
            yield Member(info.name, info.size, partial(opened, info))


def _parts(archive: Path) -> list[Path]:
    """The parts of a zip in their order, the last included; [] of a zip that is whole."""
    stem = archive.with_suffix("")
    numbered = {
        int(path.suffix[2:]): path
        for path in archive.parent.glob(f"{stem.name}.*")
        if _PART.fullmatch(path.suffix.lower())
    }
    if sorted(numbered) != list(range(1, len(numbered) + 1)):
        raise zipfile.BadZipFile(f"of its parts there are only {sorted(numbered)}")
    return [*(numbered[number] for number in sorted(numbered)), archive] if numbered else []


class _Joined:
    """The parts of a zip as one file.

    Attributes:
        starts: where each part begins in the whole.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        self._files = [open(part, "rb") for part in parts]  # noqa: SIM115
        sizes = [part.stat().st_size for part in parts]
        self.starts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]

    def __enter__(self) -> "_Joined":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def read(self, position: int, count: int) -> bytes:
        """`count` bytes from a position of the whole; EOFError if there are fewer."""
        found = b""
        while len(found) < count:
            at = position + len(found)
            part = max(i for i, start in enumerate(self.starts) if start <= at)
            if part == len(self._files):
                raise EOFError("it is cut off")
            self._files[part].seek(at - self.starts[part])
            found += self._files[part].read(count - len(found))
        return found


def _of_parts(whole: _Joined) -> Iterator[Member]:
    start, size = _contents(whole)
    table = io.BytesIO(whole.read(start, size))
    while head := table.read(46):
        fields = struct.unpack("<4s6H3L5H2L", head)
        signature, flags, method, crc = fields[0], fields[3], fields[4], fields[7]
        packed, plain, part, offset = fields[8], fields[9], fields[13], fields[16]
        name, extra, _ = (table.read(count) for count in fields[10:13])
        if signature != b"PK\1\2" or flags & 1:
            raise zipfile.BadZipFile("its table of contents is damaged, or it is encrypted")
        plain, packed, offset, part = _large(extra, plain, packed, offset, part)
        text = name.decode("utf-8" if flags & 0x800 else "cp437")
        if text.endswith("/") or fields[15] >> 28 not in (0, 8) or not safe(text):
            continue
        if part >= len(whole.starts) - 1 or method not in (0, 8) or plain > _LARGEST:
            raise zipfile.BadZipFile(
                f"{text} is in a part, of a kind or of a size that is no clip's"
            )
        place = whole.starts[part] + offset
        opens = _Packed(
            whole=whole, place=place, packed=packed, plain=plain, method=method, crc=crc
        )
        yield Member(text, plain, opens.open)


def _contents(whole: _Joined) -> tuple[int, int]:
    """Where the table of contents is in the whole, and how long."""
    end = whole.starts[-1]
    tail_start = max(whole.starts[-2], end - 65_557)
    tail = whole.read(tail_start, end - tail_start)
    last = tail.rfind(b"PK\5\6")
    if last < 0:
        raise zipfile.BadZipFile("its end is missing")
    *_, part, _, _, size, offset, _ = struct.unpack("<4s4H2LH", tail[last : last + 22])
    if last >= 20 and tail[last - 20 : last - 16] == b"PK\6\7":  # a large one has larger fields
        at, where = struct.unpack("<LQ", tail[last - 16 : last - 4])
        fields = struct.unpack("<4sQ2H2L4Q", whole.read(whole.starts[at] + where, 56))
        part, size, offset = fields[5], fields[8], fields[9]
    if part >= len(whole.starts) - 1:
        raise zipfile.BadZipFile("parts of it are missing")
    return whole.starts[part] + offset, size


def _large(extra: bytes, plain: int, packed: int, offset: int, part: int) -> tuple[int, ...]:
    """Sizes, offset and part of an entry, from its extra field where they do not fit."""
    numbers = [plain, packed, offset, part]
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        content, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 1:
            for i, (unset, form) in enumerate([(_UNSET, "<Q")] * 3 + [(0xFFFF, "<L")]):
                if numbers[i] == unset:
                    width = struct.calcsize(form)
                    (numbers[i],), content = struct.unpack(form, content[:width]), content[width:]
    return tuple(numbers)


@dataclass(frozen=True, kw_only=True)
class _Packed:
    """A file in a zip in parts: where it begins there, and how it is packed."""

    whole: _Joined
    place: int
    packed: int
    plain: int
    method: int
    crc: int

    def open(self) -> IO[bytes]:
        """Its bytes, unpacked and checked."""
        head = self.whole.read(self.place, 30)
        names = sum(struct.unpack("<HH", head[26:30]))
        content = self.whole.read(self.place + 30 + names, self.packed)
        if self.method == 8:
            content = zlib.decompressobj(-15).decompress(content, self.plain + 1)
        if len(content) != self.plain or zlib.crc32(content) != self.crc:
            raise zipfile.BadZipFile("a file in it is damaged")
        return io.BytesIO(content)
