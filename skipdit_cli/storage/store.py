"""Samples of a run on disk: lossless, verified, and never half-written.

    <root>/samples/<run key>/
        run.json             the run, and what made its first sample (provenance)
        samples.jsonl        the journal: one line per finished sample; later lines win
        000000.png           an image, or 000000.mkv, a lossless clip
        previews/000000.mp4  a clip to look at, if wanted; never scored
        trajectory.safetensors    latents of the first samples after every step (trajectory.py)

A sample is written beside its place, flushed, moved into place and only then entered in the
journal, by one append. A process killed at any moment therefore leaves samples that are finished
and entered, or are made again; a torn or damaged line of the journal is none.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipdit_cli.checkpoints.card import DRY_RUN, RANDOM
from skipdit_cli.errors import IncompleteError, StoreError, warn
from skipdit_cli.storage import encoded, kept
from skipdit_cli.storage.disk import append, on_disk, put, remove_leftovers
from skipdit_cli.storage.lock import held

if TYPE_CHECKING:
    from skipdit_cli.run import Run

JournalEntry = dict[str, Any]  # a line of the journal: index, file, sha256, meta, device

DESCRIPTION = kept.Kind("description of a run", 2)
ENTRY = kept.Kind("entry of a sample", 2)


def open_store(root: Path, run: "Run") -> "Store":
    """The store of a run under a results folder; nothing is written yet."""
    return Store(root / "samples" / run.key, run)


def keys(root: Path) -> list[str]:
    """The keys of all runs that have a folder under a results folder."""
    with on_disk(root):
        return sorted(path.parent.name for path in (root / "samples").glob("*/run.json"))


def read_run(root: Path, key: str) -> dict[str, Any]:
    """What run.json of a run holds: "run", its content, and "provenance"; {} if it is not there.

    Raises:
        StoreError: the file is damaged, or that of another run.
    """
    path = root / "samples" / key / "run.json"
    return kept.read_json(path, _described, DESCRIPTION, of=key) or {}


@dataclass
class Store:
    """The samples of one run; `open_store` makes it.

    Attributes:
        path: its folder, which appears with the first `lock` or `write`.
        run: what the samples are samples of.
        corrupt: the indices that the last call of `missing` found damaged.
    """

    path: Path
    run: "Run"
    corrupt: list[int] = field(default_factory=list)
    _journal: dict[int, JournalEntry] = field(default_factory=dict, repr=False)
    _journal_stat: tuple[int, ...] | None = field(default=None, repr=False)
    _described: bool = field(default=False, repr=False)

    def write(
        self,
        index: int,
        array: np.ndarray,
        *,
        meta: dict,
        device: str = "",
        preview: bool = True,
    ) -> None:
        """Put one sample in place and enter it in the journal.

        Args:
            index: of the sample, from 0.
            array: uint8 RGB, an image [H, W, 3] or a clip [T, H, W, 3].
            meta: what else is known of the sample, as JSON can hold it ({"class": 3}).
            device: the name of what computed it.
            preview: make an mp4 of a clip, to look at.

        Raises:
            StoreError: the disk is full or the folder cannot be written; what was finished before
                is kept.
        """
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
            raise ValueError(f"not uint8 RGB: {array.dtype} {array.shape}")
        clip = array.ndim == 4
        path = self.path / f"{index:06d}.{'mkv' if clip else 'png'}"
        data = encoded.encode(array)
        entry = {
            "index": index,
            "file": path.name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "meta": meta,
            "device": device,
        }
        line = kept.sealed_json(entry, ENTRY, of=self.run.key, indent=None)
        with self._on_disk(path):
            if not self._described:
                self._create(device)
                self._described = True
            if clip and preview:
                (self.path / "previews").mkdir(exist_ok=True)
                put(self.path / "previews" / f"{index:06d}.mp4", encoded.preview(array))
            put(path, data)
            append(self.path / "samples.jsonl", line)

    def put(self, name: str, data: bytes) -> None:
        """Put another file beside the samples, whole or not at all.

        Raises:
            StoreError: as `write`.
        """
        with self._on_disk(self.path / name):
            self.path.mkdir(parents=True, exist_ok=True)
            put(self.path / name, data)

    def read(self, index: int) -> np.ndarray:
        """A sample as it was written: uint8 RGB [H, W, 3] or [T, H, W, 3].

        Raises:
            IncompleteError: it was never finished, or its file is gone.
            StoreError: its file is not what was written.
        """
        entry = self._entry(index)
        path = self.path / entry["file"]
        with on_disk(path):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                raise self._incomplete([index]) from None
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise StoreError(
                "the file is damaged (its sha256 is not the one in samples.jsonl)",
                place=str(path),
                fix="run the same command again to redo it",
            )
        return encoded.decode(data, clip=path.suffix == ".mkv")

    def file(self, index: int) -> Path:
        """Where a sample is; IncompleteError if it was never finished."""
        return self.path / self._entry(index)["file"]

    def meta(self, index: int) -> dict:
        """What `write` was told about a sample; IncompleteError if it was never finished."""
        return self._entry(index)["meta"]

    def black(self, n: int) -> list[int]:
        """Those of samples 0 to n-1 that were black all over when they were written."""
        return [i for i, entry in self._entries().items() if i < n and entry["meta"].get("black")]

    def entered(self) -> frozenset[int]:
        """The indices in the journal, whether their files are sound or not."""
        return frozenset(self._entries())

    def count(self) -> int:
        """How many samples are in the journal, whether their files are sound or not."""
        return len(self._entries())

    def missing(self, indices: Iterable[int]) -> list[int]:
        """Those of the indices whose sample is absent or damaged; every file is checked.

        The damaged ones are in `corrupt` as well.
        """
        entries, gone, corrupt = self._entries(), [], []
        for index in indices:
            entry = entries.get(index)
            sha256 = _sha256(self.path / entry["file"]) if entry else None
            if not entry or sha256 != entry["sha256"]:
                gone.append(index)
            if entry and sha256 not in (None, entry["sha256"]):
                corrupt.append(index)
        self.corrupt = corrupt
        return gone

    def require(self, n: int) -> None:
        """Raise IncompleteError, naming what is missing, unless samples 0 to n-1 are all sound."""
        if gone := self.missing(range(n)):
            raise self._incomplete(gone, n=n)

    def hashes(self, n: int) -> list[str]:
        """The sha256 of the files of samples 0 to n-1, as the journal has them.

        Raises:
            IncompleteError: some were never finished.
        """
        entries = self._entries()
        if gone := [index for index in range(n) if index not in entries]:
            raise self._incomplete(gone, n=n)
        return [entries[index]["sha256"] for index in range(n)]

    @contextmanager
    def lock(
        self, waiting: Callable[[str], AbstractContextManager[Any]] | None = None
    ) -> Iterator[None]:
        """Hold the run for this process, and remove what a killed one left half-written.

        The operating system frees the lock of a process that ends, however it ends. Processes that
        write on behalf of the holder need no lock of their own.

        Args:
            waiting: opens a display of what is waited for while another process holds it; without
                it that is an error.
        Raises:
            StoreError: another process holds it and is not waited for, or the folder cannot be
                written.
        """
        with held(self.path, waiting=waiting, kept=self._kept):
            with self._on_disk(self.path):
                remove_leftovers(self.path)
                self._create()
                self._mend_journal()
            yield

    def _create(self, device: str = "") -> None:
        """Write run.json, unless it is there, counts as many samples and knows what made them.

        Args:
            device: of the first sample, which only the process that computed it can tell.
        """
        known: dict[str, dict] = {}
        with kept.damaged_is_absent():
            known = read_run(self.path.parents[1], self.run.key)
        enough = known and known["run"]["num_samples"] >= self.run.num_samples
        if enough and (known["provenance"].get("device") or not device):
            return
        if known:
            provenance = known["provenance"]
        else:
            from skipdit_cli.storage.provenance import collect

            provenance = collect() | {"device": ""}
        provenance["device"] = provenance.get("device") or device
        self.path.mkdir(parents=True, exist_ok=True)
        described = self.run.to_dict()
        content: dict[str, Any] = {"run": described, "provenance": provenance}
        if described.get("weights") == RANDOM:
            content["note"] = DRY_RUN
        put(self.path / "run.json", kept.sealed_json(content, DESCRIPTION, of=self.run.key))

    def _mend_journal(self) -> None:
        """Write the journal without the lines that tell nothing, if there are any."""
        path = self.path / "samples.jsonl"
        if not path.is_file():
            return
        *lines, last = path.read_bytes().split(b"\n")  # nothing, or what a kill tore: as foreseen
        if self._parse(last):
            lines.append(last)
        sound = [line for line in lines if self._parse(line)]
        if damaged := len(lines) - len(sound):
            warn(
                f"{damaged} of {len(lines)} lines are damaged",
                place=str(path),
                fix="samples that they told of are made again",
            )
        if damaged or last:
            put(path, b"".join(line + b"\n" for line in sound))

    def _entries(self) -> dict[int, JournalEntry]:
        """The journal by index, parsed again only when the file has changed."""
        path = self.path / "samples.jsonl"
        with on_disk(path):
            try:
                stat = path.stat()
            except FileNotFoundError:
                return {}
            changed = stat.st_ino, stat.st_size, stat.st_mtime_ns
            if changed != self._journal_stat:
                self._journal, self._journal_stat = self._read_journal(path), changed
        return self._journal

    def _read_journal(self, path: Path) -> dict[int, JournalEntry]:
        with open(path, "rb") as file:
            return dict(filter(None, map(self._parse, file)))

    def _parse(self, line: bytes) -> tuple[int, JournalEntry] | None:
        """(index, entry) of a journal line, or None if it is not what this run's store wrote."""
        try:
            entry = kept.unsealed_json(line, ENTRY, of=self.run.key)
            index, name = entry["index"], entry["file"]
            known = name in (f"{index:06d}.png", f"{index:06d}.mkv")
            sound = known and isinstance(entry["meta"], dict) and isinstance(entry["sha256"], str)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None
        return (index, entry) if sound else None

    def _entry(self, index: int) -> JournalEntry:
        entry = self._entries().get(index)
        if entry is None:
            raise self._incomplete([index])
        return entry

    def _on_disk(self, place: Path) -> AbstractContextManager[None]:
        """`on_disk`, which also tells how much is finished and kept."""
        return on_disk(place, kept=self._kept)

    def _kept(self) -> str:
        with suppress(OSError):
            count = len(self._read_journal(self.path / "samples.jsonl"))
            return f" (finished samples are kept: {count})"
        return ""

    def _incomplete(self, gone: Sequence[int], *, n: int | None = None) -> IncompleteError:
        names = ", ".join(map(str, gone[:5])) + (", ..." if len(gone) > 5 else "")
        damaged = len(set(gone) & set(self.corrupt))
        count = f" ({len(gone)} of {n}{f', {damaged} damaged' if damaged else ''})" if n else ""
        return IncompleteError(
            f"missing {'sample' if len(gone) == 1 else 'samples'} {names}{count}",
            place=str(self.path),
            fix=f"run {maker(self.path)}: it makes only these",
        )


def _sha256(path: Path) -> str | None:
    with on_disk(path):
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None


def maker(path: Path) -> str:
    """What makes the samples in a folder: the command that began them, as far as that is known."""
    command = ""
    with suppress(StoreError):
        known = read_run(path.parents[1], path.name)
        command = known.get("provenance", {}).get("command", "")
    return f"`{command}` again" if command else "the command that is to make them"


def _described(content: dict[str, Any]) -> dict[str, dict]:
    run, provenance = content["run"], content["provenance"]
    if not isinstance(run["num_samples"], int) or not isinstance(provenance, dict):
        raise ValueError("its number of samples is not a whole number")
    return {"run": run, "provenance": provenance}
