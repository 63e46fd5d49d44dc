"""The journal of a run: a line for every finished sample, written by whoever holds the run.

Whichever process computes a sample leaves its line in a file of its own beside it; the holder takes
these lines in. The line that was entered last of a sample is the one that counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipdit_cli.errors import warn
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import append, on_disk, put

Entry = dict[str, Any]  # index, file, sha256, meta, device

FILE = "samples.jsonl"
ENTRY = kept.Kind("entry of a sample", 2)
_LYING = "[0-9][0-9][0-9][0-9][0-9][0-9]*.json"


@dataclass(frozen=True)
class Lying:
    """A line that lies beside the journal: its file, what stands there, and what it says."""

    path: Path
    line: bytes
    entry: Entry


class Journal:
    """The finished samples of a run, in its folder.

    Args:
        folder: of the run.
        key: of the run, which every line is sealed with.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._path, self._key = folder, folder / FILE, key
        self._known: dict[int, Entry] = {}
        self._stat: tuple[int, ...] | None = None

    def entries(self) -> dict[int, Entry]:
        """What is entered, by index; the file is parsed again only when it has changed.

        Raises:
            StoreError: the disk cannot be read.
        """
        with on_disk(self._path):
            try:
                stat = self._path.stat()
            except FileNotFoundError:
                return {}
            changed = stat.st_ino, stat.st_size, stat.st_mtime_ns
            if changed != self._stat:
                self._known, self._stat = self._read(), changed
        return self._known

    def finished(self) -> int:
        """How many samples are entered, or lie there to be; OSError if that cannot be read."""
        lying = {line.entry["index"] for line in self.lying()}
        return len(lying | set(self._read() if self._path.is_file() else ()))

    def line(self, entry: Entry) -> tuple[str, bytes]:
        """The name and content of the file in which a line lies until it is taken in."""
        return f"{entry['index']:06d}.json", self._sealed(entry)

    def lying(self, indices: Iterable[int] | None = None) -> list[Lying]:
        """The lines that lie beside the journal; damaged ones are removed, and so made again.

        Args:
            indices: those looked for, by name; all by default.
        Raises:
            OSError: the folder cannot be read.
        """
        if indices is None:
            paths = sorted(self._folder.glob(_LYING))
        else:
            paths = [self._folder / f"{index:06d}.json" for index in indices]
        lines = []
        for path in paths:
            try:
                line = path.read_bytes()
            except FileNotFoundError:
                continue
            if parsed := self._parse(line):
                lines.append(Lying(path, line, parsed[1]))
            else:
                path.unlink(missing_ok=True)
        return lines

    def take_in(self, lines: Sequence[Lying]) -> None:
        """Enter lines that lie beside the journal, and remove their files.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        known = self.entries()  # a process may have been killed just before it removed one
        if new := [each.line for each in lines if known.get(each.entry["index"]) != each.entry]:
            append(self._path, b"".join(new))
        for each in lines:
            each.path.unlink(missing_ok=True)

    def add(self, entries: Iterable[Entry]) -> None:
        """Enter lines; OSError as of `take_in`."""
        if lines := [self._sealed(entry) for entry in entries]:
            append(self._path, b"".join(lines))

    def mend(self) -> None:
        """Write the journal without the lines that tell nothing, if there are any.

        Raises:
            OSError: as of `take_in`.
        """
        if not self._path.is_file():
            return
        *lines, last = self._path.read_bytes().split(b"\n")  # nothing, or what a kill tore
        if self._parse(last):
            lines.append(last)
        sound = [line for line in lines if self._parse(line)]
        if damaged := len(lines) - len(sound):
            warn(
                f"{damaged} of {len(lines)} lines are damaged",
                place=str(self._path),
                fix="samples that they told of are made again",
            )
        if damaged or last:
            put(self._path, b"".join(line + b"\n" for line in sound))

    def _sealed(self, entry: Entry) -> bytes:
        return kept.sealed_json(entry, ENTRY, of=self._key, indent=None)

    def _read(self) -> dict[int, Entry]:
        with open(self._path, "rb") as file:
            return dict(filter(None, map(self._parse, file)))

    def _parse(self, line: bytes) -> tuple[int, Entry] | None:
        """(index, entry) of a line, or None if it is not what was written for this run."""
        try:
            entry = kept.unsealed_json(line, ENTRY, of=self._key)
            index, name = entry["index"], entry["file"]
            known = name in (f"{index:06d}.png", f"{index:06d}.mkv")
            sound = known and isinstance(entry["meta"], dict) and isinstance(entry["sha256"], str)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None
        return (index, entry) if sound else None
