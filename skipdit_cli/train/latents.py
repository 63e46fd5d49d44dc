"""Latents of one's own data: encoded once, read as often as training looks at them.

What is kept of an image or a clip is the normal distribution that the autoencoder takes it for, so
that every look at it draws another latent from it, as official training does.
"""

import hashlib
import json
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from skipdit_cli.checkpoints import local, networks
from skipdit_cli.checkpoints.card import Card, file_name
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.generate import loaded, text
from skipdit_cli.models import Conditions
from skipdit_cli.storage import lock
from skipdit_cli.storage.disk import check_writable, on_disk, remove_leftovers
from skipdit_cli.train import shards
from skipdit_cli.train.encoding import Encoding, Progress
from skipdit_cli.train.files import Listing, listed
from skipdit_cli.train.frames import preparation
from skipdit_cli.train.shards import AGAIN, Asked, Index

POLL = 1.0  # seconds between two looks at what another process makes
NOTHING = ""  # the caption of what is trained without one, whatever sampling has in its place


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents in a folder, of which only what is looked at is read.

    Attributes:
        folder: where they are, and the embeddings of their captions.
        index: what they are.
    """

    folder: Path
    index: Index
    _files: dict[int, tuple[Any, Tensor]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """How many images or clips there are, each counted once."""
        return self._ends[-1]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels; () where there are none."""
        return self.index.classes

    @property
    def captions(self) -> tuple[str, ...]:
        """The captions, each once, in the order of their labels; () where there are none."""
        return self.index.captions

    @property
    def precision(self) -> str:
        """In which the captions were encoded."""
        return self.index.asked.precision

    @property
    def identity(self) -> str:
        """What tells them from others."""
        return self.index.identity

    @property
    def bad(self) -> dict[str, str]:
        """Files that are left out, and why."""
        return {name: why for shard in self.index.shards for name, why in shard.bad.items()}

    @property
    def facts(self) -> dict[str, Any]:
        """What there is of them, in numbers, and their identity."""
        return {
            "items": len(self),
            "classes": len(self.classes),
            "captions": len(self.captions),
            "entries": len(self) * self.index.asked.entries,
            "shards": len(self.index.shards),
            "bytes": sum(shard.size for shard in self.index.shards),
            "identity": self.identity,
        }

    def batch(self, items: Sequence[int], generator: Generator) -> tuple[Tensor, Tensor]:
        """Latents of some items: one of the entries of each, drawn anew.

        Args:
            items: places, 0 to len - 1.
            generator: of the CPU; the batch depends on its state and on the items alone.
        Returns:
            x0 [B, ...] float32 as the model takes it, and labels [B] int64: places of classes or of
            captions, 0 where there are neither.
        """
        drawn = torch.randint(self.index.asked.entries, (len(items),), generator=generator)
        found = [self._find(item) for item in items]
        rows = [
            (number, at * self.index.asked.entries + entry)
            for (number, at), entry in zip(found, drawn.tolist(), strict=True)
        ]
        labels = torch.stack([self._file(number)[1][at] for number, at in found])
        if not self.index.asked.vae:
            return self._rows("pixels", rows).float() / 127.5 - 1, labels
        mean, std = self._rows("mean", rows).float(), self._rows("std", rows).float()
        return mean + std * torch.randn(mean.shape, generator=generator), labels

    def conditions(self, chosen: Card, labels: Tensor) -> tuple[Conditions, Conditions]:
        """What a text model is told of captions, and where there is none; as `text.conditions`.

        Args:
            labels: places of captions, of `batch`.
        """
        captions = [self.captions[label] for label in labels.tolist()]
        return text.conditions(
            chosen, captions, root=self.folder, negative=NOTHING, precision=self.precision
        )

    def _find(self, item: int) -> tuple[int, int]:
        """The shard of an item, and its place there."""
        if not 0 <= item < len(self):
            raise IndexError(f"item {item} of {len(self)}")
        number = bisect_right(self._ends, item)
        return number, item - (self._ends[number - 1] if number else 0)

    def _rows(self, name: str, rows: Sequence[tuple[int, int]]) -> Tensor:
        return torch.cat(
            [self._file(number)[0].get_slice(name)[row : row + 1] for number, row in rows]
        )

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(shard.items for shard in self.index.shards))

    def _file(self, number: int) -> tuple[Any, Tensor]:
        """A shard, open, and the labels in it."""
        from safetensors import safe_open

        if number not in self._files:
            file = safe_open(self.folder / shards.name(number), framework="pt")
            self._files[number] = file, file.get_tensor("labels")
        return self._files[number]


def opened(folder: Path, chosen: Card) -> Latents:
    """Latents that a model can be trained on, every file of which is whole.

    Raises:
        UsageError: there are none, or they are those of another shape or autoencoder, or have
            neither classes nor captions where the model takes them.
        DamagedError: a file is not what was written.
        MissingAssetError: the autoencoder or an embedding is not here.
    """
    place, index = str(folder), shards.read(folder)
    making = f"`skipdit latents --model {chosen.name} --data FOLDER`"
    if index is None:
        raise UsageError("holds no latents", place=place, fix=f"make them with {making}")
    if not index.shards:
        raise UsageError("is not finished", place=place, fix=AGAIN)
    shape, vae = _shape(chosen), _vae(chosen)
    if index.asked.shape != shape:
        was, now = ("x".join(map(str, each)) for each in (index.asked.shape, shape))
        problem = f"holds latents of {was} for {index.model}, and {chosen.name} takes {now}"
        raise UsageError(problem, place=place, fix=f"make its own with {making}")
    if index.asked.vae != vae:
        problem = f"holds latents of another autoencoder, for {index.model}"
        raise UsageError(problem, place=place, fix=f"make those of {chosen.name} with {making}")
    for name, there, wanted in (
        ("captions", bool(index.captions), chosen.text),
        ("classes", bool(index.classes), not chosen.text and chosen.num_classes is not None),
    ):
        if there != wanted:
            problem = f"holds latents {'with' if there else 'without'} {name}, and {chosen.name} "
            problem += f"takes {'none' if there else 'them'}"
            raise UsageError(problem, place=place, fix=f"make its own with {making}")
    for shard in index.shards:
        shards.check(folder, shard)
    found = Latents(folder, index)
    if chosen.text:
        _require_embeddings(found, chosen)
    return found


def awaited(folder: Path, chosen: Card, *, tell: Callable[[], None] = lambda: None) -> Latents:
    """As `opened`, when another process that makes them has finished.

    Args:
        tell: called once where that has to be waited for.
    """
    told = False
    while (index := shards.read(folder)) is None or not index.shards:
        if not told:
            tell()
        told = True
        time.sleep(POLL)
    return opened(folder, chosen)


def encode(
    chosen: Card,
    data: Path,
    folder: Path,
    *,
    device: str = "cpu",
    precision: str = "float32",
    interval: int | None = None,
    crops: int = 1,
    flips: bool | None = None,
    batch_size: int = 8,
    max_bad: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Latents:
    """Encode images or clips, and their captions, into a folder; an interrupted call goes on there.

    Args:
        data: as of `files.listed`.
        precision: of the autoencoder and the text encoders.
        interval, crops, seed: as of `frames.preparation`.
        flips: keep each mirrored as well; None as in official training, which mirrors what has no
            caption.
        batch_size: files that are in memory together.
        max_bad: files that may be left out because they cannot be read, or are too short.
        progress: called with (done, total), of captions and then of files.
    Raises:
        UsageError: the data cannot be used, too much of it is bad, or the folder holds latents that
            were made otherwise.
        MissingAssetError: the autoencoder or a text encoder is not here.
    """
    how = preparation(chosen, interval=interval, crops=crops, seed=seed)
    listing = listed(data, chosen)
    for part in chosen.components:
        local.component(chosen, part)
    captions = tuple(dict.fromkeys(item.caption for item in listing.items if item.caption))
    asked = Asked(
        shape=_shape(chosen),
        vae=_vae(chosen),
        data=_digest(listing, data),
        interval=how.interval,
        crops=how.crops,
        flips=_flipped(chosen, flips),
        precision=precision,
        seed=seed,
    )
    index = Index(asked, chosen.name, str(data.absolute()), listing.classes, captions)
    check_writable(folder)
    with lock.held(folder):
        with on_disk(folder):
            remove_leftovers(folder)
        found = shards.begun(folder, index)
        if chosen.text:
            text.warn_of_cuts(chosen, captions, negative=NOTHING)
            text.encode(
                chosen,
                captions,
                root=folder,
                negative=NOTHING,
                device=device,
                precision=precision,
                progress=progress,
            )
        work = Encoding(chosen, how, asked, listing, device, batch_size, max_bad)
        for number, places in enumerate(work.places):
            if number not in found:
                known = sum(len(shard.bad) for shard in found.values())
                content, bad = work.shard(places, known, progress)
                found[number] = shards.save(folder, number, content, bad, asked)
        loaded.release("autoencoder")
        if not sum(shard.items for shard in found.values()):
            raise UsageError("nothing in it can be read", place=f"--data {data}")
        shards.finish(folder, index, found)
    return opened(folder, chosen)


def usual_folder(
    chosen: Card,
    data: Path,
    *,
    interval: int | None = None,
    crops: int = 1,
    flips: bool | None = None,
    seed: int = 0,
    precision: str = "float32",
) -> Path:
    """Where latents of some data are unless told otherwise; arguments as of `encode`."""
    how = preparation(chosen, interval=interval, crops=crops, seed=seed)
    told = [
        str(data.resolve()),
        _shape(chosen),
        how.interval,
        crops,
        _flipped(chosen, flips),
        seed,
        precision,
    ]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    return Path("results/latents") / f"{file_name(chosen.name)}-{digest[:8]}"


def _flipped(chosen: Card, flips: bool | None) -> bool:
    """Whether each item is kept mirrored as well; what has a caption is not, unless asked for."""
    return not chosen.text if flips is None else flips


def _shape(chosen: Card) -> list[int]:
    """The shape of one latent of a model."""
    return list(networks.meta(chosen).inputs(1)["hidden_states"].shape[1:])


def _vae(chosen: Card) -> str:
    """What tells the autoencoder of a model from others; "" where it has none."""
    if "vae" not in chosen.components:
        return ""
    local.component(chosen, "vae")  # it is here
    return local.component_fingerprint(chosen.components["vae"])


def _digest(listing: Listing, data: Path) -> str:
    """What tells data from others without reading it."""
    digest, base = hashlib.sha256(repr(listing.classes).encode()), data
    if not data.is_dir():
        base = data.parent
    for item in listing.items:
        with on_disk(item.path):
            stat = item.path.stat()
        told = (str(item.path.relative_to(base)), stat.st_size, stat.st_mtime_ns, *item[1:])
        digest.update(repr(told).encode())
    return digest.hexdigest()


def _require_embeddings(found: Latents, chosen: Card) -> None:
    """Raise a MissingAssetError where a caption has none of this model's text encoders."""
    paths = text.paths(
        chosen,
        found.captions,
        root=found.folder,
        negative=NOTHING,
        precision=found.precision,
    )
    if gone := [path for path in paths if not path.is_file()]:
        raise MissingAssetError(
            f"{len(gone)} embeddings of captions by the text encoders of {chosen.name} are not "
            "there",
            place=str(found.folder),
            fix=AGAIN,
        )
