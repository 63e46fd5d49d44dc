"""Latents on disk: an index, and shards of so many items each, which are made one after the other.

`latents.json` says what they were made of, and of every shard its size and sha256; while they are
made, each shard that is finished has a line in `shards.jsonl` instead. A shard is a safetensors
file of "mean" and "std" of the autoencoder's posterior, [entries, ...] float16, or of "pixels",
[entries, ...] uint8, and of "labels" [items] int64. Every item has as many entries as any other,
one behind the other: its crops, each as it is and mirrored.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints.local import remembered_sha256
from skipdit_cli.errors import UsageError
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import DamagedError, append, on_disk, write_whole

if TYPE_CHECKING:
    from torch import Tensor

INDEX, JOURNAL = "latents.json", "shards.jsonl"
AGAIN = "encode the data again: what is whole is kept"
LATENTS = kept.Kind("index of latents", 1, fix="delete it, and encode the data again")
SHARD = kept.Kind("entry of a shard of latents", 1)


@dataclass(frozen=True)
class Asked:
    """What latents depend on; those of a folder all on the same.

    Attributes:
        shape: of one, [C, H, W], [F, C, H, W] or [C, F, H, W].
        vae: fingerprint of the autoencoder; "" for pixels.
        data: digest of names, sizes, times, classes and captions of the files.
    """

    shape: list[int]
    vae: str
    interval: int
    crops: int
    flips: bool
    precision: str
    seed: int
    data: str

    @property
    def entries(self) -> int:
        """How many there are of every item."""
        return self.crops * (1 + self.flips)

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Shard:
    """A finished shard.

    Attributes:
        number: its place among all.
        items: how many images or clips are in it.
        size: bytes.
        bad: files that are not in it, and why.
    """

    number: int
    items: int
    size: int
    sha256: str
    bad: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        return name(self.number)


@dataclass(frozen=True)
class Index:
    """What a folder of latents holds.

    Attributes:
        model, source: the name of a model they were made for, and the folder or table of the data.
        classes: names, sorted. captions: each once. One of them is empty, or both.
        shards: all of them, once they are finished; else none.
    """

    asked: Asked
    model: str
    source: str
    classes: tuple[str, ...]
    captions: tuple[str, ...]
    shards: tuple[Shard, ...] = ()

    @property
    def identity(self) -> str:
        """16 hex digits that tell latents from others, wherever they lie."""
        content = [self.asked.shape, self.asked.vae, self.classes, self.captions]
        content += [shard.sha256 for shard in self.shards]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def name(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:05d}.safetensors"


def read(folder: Path) -> Index | None:
    """The index of a folder, or None if there is none.

    Raises:
        DamagedError: it is not what was written there.
    """
    return kept.read_json(folder / INDEX, _parsed, LATENTS, of=INDEX)


def write(folder: Path, index: Index) -> None:
    """Write the index."""
    write_whole(folder / INDEX, kept.sealed_json(asdict(index), LATENTS, of=INDEX))


def begun(folder: Path, index: Index) -> dict[int, Shard]:
    """The sound shards that are there already, by number, of latents that go on here.

    Raises:
        UsageError: the folder holds others; what differs is named.
    """
    there = read(folder)
    if there is None:
        write(folder, index)
        return {}
    was, now = asdict(there.asked), asdict(index.asked)
    if differ := [key for key in now if was[key] != now[key]]:
        raise UsageError(
            f"holds latents of {there.source}, whose files are others or have changed"
            if differ[0] == "data"
            else f"holds latents of {_told(differ[0], was)}, not of {_told(differ[0], now)}",
            place=str(folder),
            fix="give the same arguments, or another --out",
        )
    shards = there.shards or tuple(_journal(folder, index.asked.digest))
    found = {}
    for shard in shards:
        with kept.damaged_is_absent():
            check(folder, shard)
            found[shard.number] = shard
    return found


def check(folder: Path, shard: Shard) -> None:
    """Raise a DamagedError unless a shard is what was written."""
    path = folder / shard.file
    with on_disk(path):
        if not path.is_file():
            raise DamagedError("is not there", place=str(path), fix=AGAIN)
        if path.stat().st_size != shard.size or remembered_sha256(path) != shard.sha256:
            raise DamagedError(
                "was changed or damaged after it was written", place=str(path), fix=AGAIN
            )


def save(
    folder: Path, number: int, tensors: "Mapping[str, Tensor]", bad: dict[str, str], asked: Asked
) -> Shard:
    """Write a shard, then its line of the journal."""
    from safetensors.torch import save as to_bytes

    data = to_bytes(dict(tensors))
    items, digest = len(tensors["labels"]), hashlib.sha256(data).hexdigest()
    shard = Shard(number, items, len(data), digest, bad)
    write_whole(folder / shard.file, data)
    line = kept.sealed_json(asdict(shard), SHARD, of=asked.digest, indent=None)
    with on_disk(folder / JOURNAL):
        append(folder / JOURNAL, line)
    return shard


def finish(folder: Path, index: Index, found: Mapping[int, Shard]) -> None:
    """Write the index of shards that are all there, unless it is; the journal goes."""
    there, made = read(folder), tuple(found[number] for number in sorted(found))
    if there is None or there.shards != made:
        write(folder, replace(index, shards=made))
    with on_disk(folder):
        (folder / JOURNAL).unlink(missing_ok=True)


def _journal(folder: Path, of: str) -> "list[Shard]":
    """What the lines of the journal tell; torn and damaged ones, and those of others, nothing."""
    with on_disk(folder / JOURNAL):
        path = folder / JOURNAL
        lines = path.read_bytes().splitlines() if path.is_file() else []
    shards = []
    for line in lines:
        with suppress(ValueError):
            shards.append(kept.shaped(Shard, kept.unsealed_json(line, SHARD, of=of)))
    return shards


def _parsed(content: dict[str, Any]) -> Index:
    return Index(
        asked=kept.shaped(Asked, content["asked"]),
        model=str(content["model"]),
        source=str(content["source"]),
        classes=tuple(content["classes"]),
        captions=tuple(content["captions"]),
        shards=tuple(kept.shaped(Shard, shard) for shard in content["shards"]),
    )


def _told(key: str, asked: Mapping[str, Any]) -> str:
    """One of the things that latents depend on, for people."""
    value = asked[key]
    if key == "vae":
        return f"the autoencoder {value}" if value else "no autoencoder"
    return f"{key} {'x'.join(map(str, value)) if key == 'shape' else value}"
