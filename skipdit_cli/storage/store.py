"""Samples of a run on disk: lossless, verified, and never half-written.

    <root>/samples/<run key>/
        run.json             the run, and what made its first sample (provenance)
        samples.jsonl        the journal: one line per finished sample; later lines win
        000000.png           an image, or 000000.mkv, a lossless clip
        000000.json          its line, until that is in the journal
        previews/000000.mp4  a clip to look at, if wanted; never scored
        trajectory.safetensors    latents of the first samples after every step (trajectory.py)

A sample is written beside its place, flushed, moved into place, and then its line likewise, by
whichever process computed it. The one process that holds the run enters the lines in the journal,
by one append: on a network file system appends of several machines overwrite one another. A process
killed at any moment therefore leaves samples that are finished, or are made again; a torn or
damaged line of the journal is none.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skipdit_cli.checkpoints.card import DRY_RUN, RANDOM
from skipdit_cli.errors import IncompleteError, StoreError
from skipdit_cli.run import FREE
from skipdit_cli.storage import encoded, kept
from skipdit_cli.storage.disk import on_disk, put, remove_leftovers
from skipdit_cli.storage.journal import Entry, Journal
from skipdit_cli.storage.lock import held

if TYPE_CHECKING:
    from skipdit_cli.run import Run

DESCRIPTION = kept.Kind("description of a run", 2)


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
    _described: bool = field(default=False, repr=False)

    @cached_property
    def _journal(self) -> Journal:
        return Journal(self.path, self.run.key)

    def write(
        self,
        index: int,
        array: np.ndarray,
        *,
        meta: dict,
        device: str = "",
        preview: bool = True,
    ) -> None:
        """Put one sample in place and enter it in the journal; for the process that holds the run.

        Args:
            index, array, meta, device, preview: as of `files`.
        Raises:
            StoreError: the disk is full or the folder cannot be written; what was finished before
                is kept.
        """
        for name, data in self.files(index, array, meta=meta, device=device, preview=preview):
            self.put(name, data)
        self.collect([index])

    def files(
        self,
        index: int,
        array: np.ndarray,
        *,
        meta: dict,
        device: str = "",
        preview: bool = True,
    ) -> Iterator[tuple[str, bytes]]:
        """The files of one sample in the order in which they are to be put, encoded one by one.

        The last of them is its line; a sample without it is not there.

        Args:
            index: of the sample, from 0.
            array: uint8 RGB, an image [H, W, 3] or a clip [T, H, W, 3].
            meta: what else is known of the sample, as JSON can hold it ({"class": 3}).
            device: the name of what computed it.
            preview: make an mp4 of a clip, to look at.
        Yields:
            Name in the run's folder, and content.
        """
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
            raise ValueError(f"not uint8 RGB: {array.dtype} {array.shape}")
        clip = array.ndim == 4
        if clip and preview:
            yield f"previews/{index:06d}.mp4", encoded.preview(array)
        name, data = f"{index:06d}.{'mkv' if clip else 'png'}", encoded.encode(array)
        yield name, data
        entry = {
            "index": index,
            "file": name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "meta": meta,
            "device": device,
        }
        yield self._journal.line(entry)

    def collect(self, indices: Iterable[int] | None = None) -> None:
        """Enter in the journal what lies beside it of samples; for the process that holds the run.

        Args:
            indices: of samples whose lines may be there; by default all are looked for.
        Raises:
            StoreError: as `write`.
        """
        with self._on_disk(self.path):
            lines = self._journal.lying(indices)
            if lines and not self._described:
                self._create(lines[0].entry["device"])
                self._described = True
            self._journal.take_in(lines)

    def enter(self, more: Mapping[int, Mapping[str, Any]]) -> None:
        """Enter in the journal what is newly known of samples that are there: their names.

        Args:
            more: by index, what belongs to their `meta` now.
        Raises:
            StoreError: as `write`.
        """
        known = self._journal.entries()
        with self._on_disk(self.path):
            self._journal.add(
                known[index] | {"meta": known[index]["meta"] | meta}
                for index, meta in more.items()
                if not meta.items() <= known[index]["meta"].items()
            )

    def put(self, name: str, data: bytes) -> None:
        """Put another file beside the samples, whole or not at all.

        Raises:
            StoreError: as `write`.
        """
        with self._on_disk(self.path / name):
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
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

    def place(self, index: int) -> str:
        """What an error calls a sample."""
        return f"{self.path} sample {index}"

    def black(self, n: int) -> list[int]:
        """Those of samples 0 to n-1 that were black all over when they were written."""
        entries = self._journal.entries().items()
        return [i for i, entry in entries if i < n and entry["meta"].get("black")]

    def entered(self) -> frozenset[int]:
        """The indices in the journal, whether their files are sound or not."""
        return frozenset(self._journal.entries())

    def count(self) -> int:
        """How many samples are in the journal, whether their files are sound or not."""
        return len(self._journal.entries())

    def missing(self, indices: Iterable[int]) -> list[int]:
        """Those of the indices whose sample is absent or damaged; every file is checked.

        The damaged ones are in `corrupt` as well.
        """
        entries, gone, corrupt = self._journal.entries(), [], []
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
        entries = self._journal.entries()
        if gone := [index for index in range(n) if index not in entries]:
            raise self._incomplete(gone, n=n)
        return [entries[index]["sha256"] for index in range(n)]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; what a killed one left is removed, or entered if whole.

        The operating system frees the lock of a process that ends, however it ends. Processes that
        write on behalf of the holder need no lock of their own; what they leave is entered.

        Raises:
            HeldError: another process holds it.
            StoreError: the folder cannot be written.
        """
        with held(self.path, kept=self._kept):
            with self._on_disk(self.path):
                remove_leftovers(self.path)
                self._create()
                self._journal.mend()
            self.collect()
            try:
                yield
            finally:
                with suppress(StoreError):  # what the block met comes first
                    self.collect()

    def _create(self, device: str = "") -> None:
        """Write run.json, unless it is there with as many samples, the names, and what made it.

        Args:
            device: of the first sample, which only the process that computed it can tell.
        """
        known: dict[str, dict] = {}
        with kept.damaged_is_absent():
            known = read_run(self.path.parents[1], self.run.key)
        described = self.run.to_dict()
        if known:
            before, provenance = known["run"], known["provenance"]
            described["num_samples"] = max(described["num_samples"], before["num_samples"])
            if names := described.get("names") or before.get("names"):
                described["names"] = names
            same = all(described.get(name) == before.get(name) for name in FREE)
            if same and (provenance.get("device") or not device):
                return
        else:
            from skipdit_cli.storage.provenance import collect

            provenance = collect() | {"device": ""}
        provenance["device"] = provenance.get("device") or device
        self.path.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"run": described, "provenance": provenance}
        if described.get("weights") == RANDOM:
            content["note"] = DRY_RUN
        put(self.path / "run.json", kept.sealed_json(content, DESCRIPTION, of=self.run.key))

    def _entry(self, index: int) -> Entry:
        entry = self._journal.entries().get(index)
        if entry is None:
            raise self._incomplete([index])
        return entry

    def _on_disk(self, place: Path) -> AbstractContextManager[None]:
        """`on_disk`, which also tells how much is finished and kept."""
        return on_disk(place, kept=self._kept)

    def _kept(self) -> str:
        with suppress(OSError):
            count = self._journal.finished()
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
