"""Making shards of latents: files are read, prepared, mirrored and encoded, a few at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from skipdit_cli.checkpoints import networks
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import UsageError, warn
from skipdit_cli.generate.encode import posterior
from skipdit_cli.train.files import Listing
from skipdit_cli.train.frames import Preparation
from skipdit_cli.train.shards import Asked

SHARD_BYTES = 200 * 10**6  # of a shard, about
Progress = Callable[[int, int], None]  # (done, total)


@dataclass(frozen=True)
class Encoding:
    """What makes the shards of some data, each of which depends on its own files alone.

    Attributes:
        how, asked, listing: what is made of which files.
        batch_size: files that are in memory together.
        max_bad: files that may be left out because they cannot be read, or are too short.
    """

    chosen: Card
    how: Preparation
    asked: Asked
    listing: Listing
    device: str
    batch_size: int
    max_bad: int

    @property
    def places(self) -> list[range]:
        """The items that each shard is made of."""
        each = torch.Size(self.asked.shape).numel() * (4 if self.asked.vae else 1)
        step = max(1, SHARD_BYTES // (each * self.asked.entries))
        total = len(self.listing.items)
        return [range(first, min(first + step, total)) for first in range(0, total, step)]

    def shard(
        self, places: range, known: int, progress: Progress | None
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The tensors of a shard, and the files that cannot be in it.

        Args:
            places: of its items.
            known: how many bad files there were before.
        """
        items, bad = self.listing.items, dict[str, str]()
        parts, labels = [self._empty()], []
        for first in range(0, len(places), self.batch_size):
            batch = places[first : first + self.batch_size]
            good = []
            for place in batch:
                try:
                    good.append(self.how.read(items[place].path, place))
                except UsageError as error:
                    bad[str(items[place].path)] = error.problem
                    self._count(error, known + len(bad))
                else:
                    labels.append(self._labels[place])
            if good:
                parts.append(self._encoded(torch.stack(good)))
            if progress:
                progress(batch.stop, len(items))
        content = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {**content, "labels": torch.tensor(labels, dtype=torch.int64)}, bad

    def _count(self, error: UsageError, bad: int) -> None:
        """Tell of a bad file, or stop where it is one too many."""
        if bad > self.max_bad:
            raise UsageError(
                f"{error.problem}: bad file {bad}, and {self.max_bad} may be left out",
                place=error.place,
                fix=f"take it out of the data, or give --max-bad {bad} or more",
            )
        warn(error.problem, place=error.place, fix="it is left out")

    def _encoded(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pixels [B, crops, (F,) C, H, W] in [0, 255] -> entries by name, [B * entries, ...]."""
        if self.asked.flips:
            pixels = torch.stack([pixels, pixels.flip(-1)], dim=2)
        pixels = pixels.flatten(0, 2 if self.asked.flips else 1)
        if not self.asked.vae:
            return {"pixels": self._laid(pixels.round().clamp(0, 255).to(torch.uint8))}
        images = pixels.flatten(0, -4) / 127.5 - 1
        found = posterior(images, self.chosen, device=self.device, precision=self.asked.precision)
        shape = pixels.shape[:-3]
        mean, std = (self._laid(each.half().unflatten(0, shape)) for each in found)
        return {"mean": mean, "std": std}

    def _laid(self, tensor: Tensor) -> Tensor:
        """[N, (F,) C, H, W] as the model has it."""
        if tensor.dim() == 5 and networks.meta(self.chosen).CHANNEL_DIM == 1:
            tensor = tensor.transpose(1, 2).contiguous()
        return tensor

    def _empty(self) -> dict[str, Tensor]:
        if not self.asked.vae:
            return {"pixels": torch.empty(0, *self.asked.shape, dtype=torch.uint8)}
        empty = torch.empty(0, *self.asked.shape, dtype=torch.float16)
        return {"mean": empty, "std": empty}

    @cached_property
    def _labels(self) -> list[int]:
        """Of all items: the place of the class, or of the caption, or 0."""
        captions: dict[str, int] = {}
        return [
            item.label or 0
            if item.caption is None
            else captions.setdefault(item.caption, len(captions))
            for item in self.listing.items
        ]
