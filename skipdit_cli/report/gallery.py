"""The samples behind a table, small enough to stand inside a page, as data: URIs.

Runs that share an uncached reference are a group: the same sample of each has the same seed and
index, so that they can be laid side by side or over one another.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product, zip_longest
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Protocol

from skipdit_cli import registry
from skipdit_cli.report.scores import PICKS, Scores, of_samples, picks
from skipdit_cli.report.table import Table, in_order

if TYPE_CHECKING:
    import numpy as np

    from skipdit_cli.run import Run
    from skipdit_cli.storage.store import Store

    Draft = tuple["Group", Sequence["Pictures"]]  # a group, and the samples of its columns

SAMPLES = 4  # the first of every run
BUDGET = 4_000_000  # characters of all samples together; fewer samples are shown where it is less
ROWS = 500  # samples whose scores are told, beside those that are worst, median and best
SIDE = 256  # pixels of the shorter side; what is larger is shown smaller
PIXELATED = 128  # pixels; what is not larger is enlarged without smoothing


@dataclass(frozen=True)
class Behind:
    """What is behind a table.

    Attributes:
        root: the results folder that holds the samples.
        runs: the runs that its lines name.
    """

    root: Path
    runs: "Sequence[Run]" = ()


@dataclass(frozen=True)
class GalleryColumn:
    """A run of a group.

    Attributes:
        label: its line of the table.
        key: of the run, the name of the folder of its samples.
        scores: of its samples, by metric.
    """

    label: str
    key: str
    scores: Scores


class Pictures(Protocol):
    """The samples of a column, as a browser shows them."""

    def shown(self, index: int) -> tuple[bytes, str] | None:
        """A sample and its media type; None if it is not on disk."""

    def label(self, index: int) -> str | None:
        """What a sample was to show; None if that is not known."""


@dataclass
class Group:
    """An uncached reference, the first column, and the runs that are compared with it.

    Attributes:
        title: which reference it is.
        count: samples that all runs have.
        columns: the runs, the reference first.
        metrics: those that score samples one by one, of any run.
        side: pixels of the samples' shorter side.
        frames: frames of a clip; 1 for images.
        rate: frames per second of a clip; 0 for images.
        rows: what each sample was to show, by its index: of those whose scores are told.
        media: data: URIs of what stands in the page, by (sample, column).
        gone: (sample, column) of what was to stand there and is not on disk.
    """

    title: str
    count: int
    columns: tuple[GalleryColumn, ...]
    metrics: tuple[str, ...]
    side: int
    frames: int = 1
    rate: float = 0
    rows: dict[int, str] = field(default_factory=dict)
    media: dict[tuple[int, int], str] = field(default_factory=dict)
    gone: set[tuple[int, int]] = field(default_factory=set)

    @property
    def samples(self) -> list[int]:
        """Those of which something stands in the page."""
        return sorted({index for index, _ in (*self.media, *self.gone)})

    @cached_property
    def picks(self) -> dict[tuple[int, str], dict[str, int]]:
        """The worst, median and best sample, by (column, metric), of runs that are scored."""
        return {
            (i, metric): picks(
                column.scores[metric], better=registry.load("metrics", metric).BETTER
            )
            for i, column in enumerate(self.columns)
            for metric in column.scores
        }

    @property
    def picked(self) -> list[tuple[int, int]]:
        """(sample, column) of all of them, each once; the worst of every metric and run first."""
        columns = range(len(self.columns))
        every = (
            (self.picks[column, metric][which], column)
            for which, metric, column in product(PICKS, self.metrics, columns)
            if (column, metric) in self.picks
        )
        return list(dict.fromkeys(every))

    @property
    def left(self) -> int:
        """How many of them do not stand in the page, though they are on disk."""
        return len({*self.picked} - self.media.keys() - self.gone)


def told(table: Table) -> list[int]:
    """Places of the names that tell lines apart, without counts; the first if none does."""

    def counts(place: int) -> bool:
        texts = (line.names[place] for line in table.lines)
        return all(text.isdigit() or not text for text in texts)

    differ = [place for place in table.shown if not counts(place)]
    return (differ if len(table.lines) > 1 else []) or [table.shown[0]]


def labels(table: Table) -> list[str]:
    """What to call each line: the names in which lines differ, without counts."""
    places = told(table)
    return [", ".join(filter(None, (line.names[i] for i in places))) for line in table.lines]


def sample_label(index: int, meta: dict[str, Any]) -> str:
    """What a sample is called, or was to show, or its number."""
    if text := meta.get("name") or meta.get("prompt"):
        return shorten(text, 36, placeholder="...")
    return f"class {meta['class']}" if "class" in meta else f"#{index}"


def together(table: Table, behind: Behind) -> "list[list[tuple[str, Run]]]":
    """(label, run) of the runs that share an uncached reference, which comes first in its list.

    A reference that no other run is compared with is left out.
    """
    names = {
        key: name
        for name, line in zip(labels(table), table.lines, strict=True)
        for key in line.runs
    }
    by_reference: dict[str, dict[str, tuple[str, Run]]] = {}
    for run in behind.runs:
        if run.key in names:
            reference = run.reference
            group = by_reference.setdefault(reference.key, {reference.key: ("uncached", reference)})
            group[run.key] = names[run.key], run
    return [list(group.values()) for group in by_reference.values() if len(group) > 1]


def title(reference: "Run") -> str:
    """What tells one uncached reference of a table from another."""
    guidance = "" if reference.guidance is None else f", guidance {reference.guidance:g}"
    return f"{reference.label}, {reference.sampled}{guidance}, {reference.seeded}"


def groups(table: Table, behind: Behind) -> list[Group]:
    """The groups of a table that have samples on disk, in the order of its lines.

    In the page stand the first sample of every run; the worst, median and best of every run by
    every metric, beside the reference's; the first few; and what the other runs made of all these,
    in this order, as far as BUDGET goes.
    """
    drafts = [_of_runs(runs, behind.root) for runs in together(table, behind)]
    return filled([each for each in drafts if each])


def filled(drafts: "Sequence[Draft]") -> list[Group]:
    """The groups, with the samples that stand in the page."""
    left = BUDGET
    for first, (group, columns), places in _in_turn(drafts):
        known = group.media.keys() | group.gone
        found = {
            place: _source(columns[place[1]], place[0]) for place in places if place not in known
        }
        left -= sum(map(len, found.values()))
        if left < 0 and not first:
            break
        group.media |= {place: source for place, source in found.items() if source}
        group.gone |= {place for place, source in found.items() if not source}
    return [group for group, _ in drafts]


Places = tuple[tuple[int, int], ...]  # (sample, column) of what is put into a page at a time


def _in_turn(shown: "Sequence[Draft]") -> "Iterator[tuple[bool, Draft, Places]]":
    """What to put into the page, each group in its turn, and whether it has to be there."""
    for turn, wanted in enumerate(zip_longest(*(_wanted(group) for group, _ in shown))):
        for draft, places in zip(shown, wanted, strict=True):
            if places:
                yield turn == 0, draft, places


def _wanted(group: Group) -> Iterator[Places]:
    """What the page of a group should show, the most important first."""

    def row(index: int) -> Places:
        return tuple((index, column) for column in range(len(group.columns)))

    few = range(min(SAMPLES, group.count))
    yield row(0)
    yield from (((index, 0), (index, column)) for index, column in group.picked)
    yield from map(row, few)
    yield from map(row, dict.fromkeys(index for index, _ in group.picked))


def _of_runs(runs: "Sequence[tuple[str, Run]]", root: Path) -> "Draft | None":
    """A draft of runs, the reference first; None where nothing is on disk."""
    from skipdit_cli.storage.store import open_store

    count = min(run.num_samples for _, run in runs)
    columns = [GalleryColumn(label, run.key, of_samples(run, root, count)) for label, run in runs]
    stores = [Stored(open_store(root, run)) for _, run in runs]
    return draft(title(runs[0][1]), columns, stores, count=count)


def draft(
    title: str, columns: Sequence[GalleryColumn], samples: Sequence[Pictures], *, count: int
) -> "Draft | None":
    """A group without the samples that stand in the page; None where none of the first is there.

    Args:
        columns: the reference, and what is compared with it.
        samples: of every column.
        count: samples that all of them have.
    """
    looked = (each.shown(i) for i, each in product(range(min(SAMPLES, count)), samples))
    first = next(filter(None, looked), None)
    if first is None:
        return None
    side, frames, rate = _shape(*first)
    group = Group(
        title=title,
        count=count,
        columns=tuple(columns),
        metrics=tuple(in_order(metric for column in columns for metric in column.scores)),
        side=side,
        frames=frames,
        rate=rate,
    )
    told = {*range(min(ROWS, count)), *(index for index, _ in group.picked)}
    group.rows = {index: _told(samples, index) for index in sorted(told)}
    return group, samples


def _told(samples: Sequence[Pictures], index: int) -> str:
    """What a sample was to show, by the first column that tells."""
    return next(filter(None, (each.label(index) for each in samples)), f"#{index}")


def _shape(data: bytes, kind: str) -> tuple[int, int, float]:
    """(pixels of the shorter side, frames, frames per second) of a sample as it is shown."""
    if kind == "video/mp4":
        import av

        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            side = min(stream.width, stream.height)
            return side, stream.frames, float(stream.average_rate or 8)
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return min(image.size), 1, 0


def _source(samples: Pictures, index: int) -> str:
    """A sample as a data: URI, "" if it is not on disk."""
    shown = samples.shown(index)
    return f"data:{shown[1]};base64,{base64.b64encode(shown[0]).decode()}" if shown else ""


@dataclass(frozen=True)
class Stored:
    """The samples of a run."""

    store: "Store"

    def label(self, index: int) -> str | None:
        store = self.store
        return sample_label(index, store.meta(index)) if index in store.entered() else None

    def shown(self, index: int) -> tuple[bytes, str] | None:
        if self.store.missing([index]):
            return None
        return _preview(self.store, index) or picture(self.store.read(index))


def _preview(store: "Store", index: int) -> tuple[bytes, str] | None:
    """The preview of a clip; None for one that is large, or is not there."""
    path = store.path / "previews" / f"{index:06d}.mp4"
    if not path.is_file():
        return None
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        small = min(stream.width, stream.height) <= SIDE
    return (path.read_bytes(), "video/mp4") if small else None


def picture(pixels: "np.ndarray") -> tuple[bytes, str]:
    """Pixels, uint8 [H,W,3] or [T,H,W,3], as a browser shows them, and their media type."""
    from skipdit_cli.storage import encoded

    if pixels.ndim == 4:
        return encoded.preview(_resized(pixels)), "video/mp4"
    if min(pixels.shape[:2]) < SIDE:
        return encoded.encode(pixels), "image/png"
    from PIL import Image

    image, data = Image.fromarray(pixels), io.BytesIO()
    image.resize(_smaller(image.size)).save(data, "JPEG", quality=90)
    return data.getvalue(), "image/jpeg"


def _resized(clip: "np.ndarray") -> "np.ndarray":
    import numpy as np
    from PIL import Image

    size = _smaller((clip.shape[2], clip.shape[1]))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size)) for frame in clip])


def _smaller(size: tuple[int, int]) -> tuple[int, int]:
    factor = min(1, SIDE / min(size))
    width, height = (max(1, round(side * factor)) for side in size)
    return width, height
