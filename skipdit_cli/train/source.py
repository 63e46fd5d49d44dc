"""Where training samples come from: what the embedded models learn, or latents of one's own data.

What a step sees depends on the seed and the step alone, whatever machine reads which part of it.
"""

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Generator, Tensor

from skipdit_cli.checkpoints.card import DIGITS, FASHION, Card
from skipdit_cli.embedded.captions import LISTS
from skipdit_cli.generate import text
from skipdit_cli.models import Conditions
from skipdit_cli.train import data, fashion

if TYPE_CHECKING:
    from skipdit_cli.train.latents import Latents

# Of what the embedded models learn: what says that it is not here, and by task what draws samples
# with their classes, or the places of their captions.
DRAWS = {
    DIGITS: (
        data.require,
        {
            "c2i": data.digits,
            "c2v": data.moving_digits,
            "t2v": data.captioned_clips,
            "t2i": data.captioned_digits,
        },
    ),
    FASHION: (fashion.require, {"c2i": fashion.fashion}),
}

# What tells generators apart: the steps of a seed, and the rows of a step; behind those of a batch
# come what is drawn beside each of them, what is drawn for all, and the order of an epoch.
STEPS, ROWS = 1_000_003, 1 << 20
BESIDE, APART, WHOLE = 1 << 18, 2 << 18, 3 << 18
EPOCH = WHOLE + 1


class Source(Protocol):
    """Training samples."""

    @property
    def identity(self) -> str:
        """What tells them from others."""
        ...

    def batch(self, step: int, rows: range, *, size: int, seed: int) -> tuple[Tensor, Tensor]:
        """Some rows of the batch of a step.

        Args:
            rows: places in the batch. size: of the whole batch.
        Returns:
            x0: clean samples, [len(rows), ...] float32 in the layout of the model. labels: int64
            [len(rows)], what `conditions` takes.
        """
        ...

    def others(self, step: int, row: int, *, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Samples at random, beside a row of the batch of a step: as `batch`, [count, ...]."""
        ...

    def conditions(self, labels: Tensor, dropped: Tensor) -> dict[str, Tensor]:
        """What the network is told of samples, [B, ...] each.

        Args:
            labels: of `batch`. dropped: bool [B], which are told nothing.
        """
        ...


def generator(seed: int, step: int, row: int | None = None) -> Generator:
    """The generator of a step, or of a row of its batch."""
    place = seed * STEPS + step
    drawn = place if row is None else place * ROWS + row
    return Generator().manual_seed(drawn % (1 << 63))


class Drawn:
    """What an embedded model learns, drawn afresh at every step.

    Raises:
        MissingAssetError: it is not here.
    """

    identity = ""

    def __init__(self, chosen: Card) -> None:
        self._card = chosen
        require, draws = DRAWS[chosen.data]
        require()
        self._draw = draws[chosen.task]

    def batch(self, step: int, rows: range, *, size: int, seed: int) -> tuple[Tensor, Tensor]:
        x0, labels = self._draw(size, generator(seed, step))
        return x0[rows.start : rows.stop], labels[rows.start : rows.stop]

    def others(self, step: int, row: int, *, count: int, seed: int) -> tuple[Tensor, Tensor]:
        return self._draw(count, generator(seed, step, BESIDE + row))

    def conditions(self, labels: Tensor, dropped: Tensor) -> dict[str, Tensor]:
        if not self._card.text:
            return _classes(self._card, labels, dropped)
        given, null = self._texts
        return {key: told(given[key][labels], null[key][labels], dropped) for key in given}

    @functools.cached_property
    def _texts(self) -> tuple[Conditions, Conditions]:
        captions = LISTS[self._card.task]
        with tempfile.TemporaryDirectory() as folder:
            text.encode(self._card, captions, root=Path(folder))
            return text.conditions(self._card, captions, root=Path(folder))


class Encoded:
    """Latents of one's own data; every epoch has an order of its own."""

    def __init__(self, chosen: Card, latents: "Latents") -> None:
        self._card, self._latents = chosen, latents
        self._order = functools.lru_cache(maxsize=2)(self._ordered)

    @property
    def identity(self) -> str:
        return self._latents.identity

    def batch(self, step: int, rows: range, *, size: int, seed: int) -> tuple[Tensor, Tensor]:
        drawn = [
            self._latents.batch([self._item(step * size + row, seed)], generator(seed, step, row))
            for row in rows
        ]
        return torch.cat([x0 for x0, _ in drawn]), torch.cat([label for _, label in drawn])

    def others(self, step: int, row: int, *, count: int, seed: int) -> tuple[Tensor, Tensor]:
        drawn = generator(seed, step, BESIDE + row)
        items = torch.randint(len(self._latents), (count,), generator=drawn).tolist()
        return self._latents.batch(items, drawn)

    def conditions(self, labels: Tensor, dropped: Tensor) -> dict[str, Tensor]:
        if not self._card.text:
            return _classes(self._card, labels, dropped)
        given, null = self._latents.conditions(self._card, labels)
        return {key: told(given[key], null[key], dropped) for key in given}

    def _item(self, place: int, seed: int) -> int:
        epoch, place = divmod(place, len(self._latents))
        return int(self._order(seed, epoch)[place])

    def _ordered(self, seed: int, epoch: int) -> Tensor:
        return torch.randperm(len(self._latents), generator=generator(seed, epoch, EPOCH))


def _classes(chosen: Card, labels: Tensor, dropped: Tensor) -> dict[str, Tensor]:
    """Of a model without classes nothing."""
    if chosen.num_classes is None:
        return {}
    return {"class_labels": labels.masked_fill(dropped, chosen.num_classes)}


def told(given: Tensor, null: Tensor, dropped: Tensor) -> Tensor:
    """What samples are told, [B, ...]: the null where they are dropped, bool [B]."""
    return torch.where(dropped.view(-1, *[1] * (given.dim() - 1)), null, given)
