"""The samples behind a table, small enough to stand inside a page, as data: URIs.

Runs that share an uncached reference are a group: the same sample of each has the same seed and
index, so that they can be laid side by side or over one another.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from skipdit_cli.report.table import Table
from skipdit_cli.storage import results

if TYPE_CHECKING:
    import numpy as np

    from skipdit_cli.run import Run
    from skipdit_cli.storage.store import Store

SAMPLES = 4  # of every run, at most
BUDGET = 4_000_000  # characters of all samples together; fewer samples are shown where it is less
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
    """The samples of one run.

    Attributes:
        label: its line of the table.
        note: its PSNR over all samples, or "".
        sources: a data: URI per sample, "" where it is not on disk.
    """

    label: str
    note: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """An uncached reference, the first column, and the runs that are compared with it.

    Attributes:
        title: which reference it is.
        samples: what each sample was to show.
        columns: the runs, the reference first.
        side: pixels of the samples' shorter side.
        frames: frames of a clip; 1 for images.
        rate: frames per second of a clip; 0 for images.
    """

    title: str
    samples: tuple[str, ...]
    columns: tuple[GalleryColumn, ...]
    side: int
    frames: int = 1
    rate: float = 0


def labels(table: Table) -> list[str]:
    """What to call each line: the names in which lines differ, without counts."""
    texts = list(zip(*(line.names for line in table.lines), strict=True))
    told = [
        column
        for column in texts
        if len(set(column)) > 1 and not all(text.isdigit() or not text for text in column)
    ]
    return [", ".join(filter(None, parts)) for parts in zip(*(told or texts[:1]), strict=True)]


def sample_label(index: int, meta: dict[str, Any]) -> str:
    """What a sample was to show, or its number."""
    if "prompt" in meta:
        return shorten(meta["prompt"], 36, placeholder="...")
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
    sampler = f"{reference.sampler.name} {reference.steps}"
    return f"{reference.label}, {sampler}{guidance}, seed {reference.seed}"


def groups(table: Table, behind: Behind) -> list[Group]:
    """The groups of a table that have samples on disk, in the order of its lines."""
    candidates = [_group(runs, behind.root) for runs in together(table, behind)]
    shown = [group for group in candidates if group]
    for count in range(SAMPLES, 1, -1):
        fewer = [_first(group, count) for group in shown]
        if sum(map(_size, fewer)) <= BUDGET:
            return fewer
    return [_first(group, 1) for group in shown]


def _group(runs: "Sequence[tuple[str, Run]]", root: Path) -> Group | None:
    """The samples of runs, the reference first; None where nothing is on disk."""
    from skipdit_cli.storage.store import open_store

    indices = range(min(SAMPLES, *(run.num_samples for _, run in runs)))
    stores = [open_store(root, run) for _, run in runs]
    sound = [set(indices) - set(store.missing(indices)) for store in stores]
    holders = [
        next((store for store, present in zip(stores, sound, strict=True) if i in present), None)
        for i in indices
    ]
    shape = next((_shape(store, i) for i, store in enumerate(holders) if store), None)
    if shape is None:
        return None
    columns = tuple(
        GalleryColumn(
            label=label,
            note="reference" if run.is_reference else _psnr(run, root),
            sources=tuple(_source(store, i) if i in present else "" for i in indices),
        )
        for (label, run), store, present in zip(runs, stores, sound, strict=True)
    )
    side, frames, rate = shape
    return Group(
        title=title(runs[0][1]),
        samples=tuple(
            sample_label(i, store.meta(i)) if store else f"#{i}" for i, store in enumerate(holders)
        ),
        columns=columns,
        side=side,
        frames=frames,
        rate=rate,
    )


def _psnr(run: "Run", root: Path) -> str:
    result = results.read_result(root, run.key, "psnr")
    if result is None or result.value is None:
        return ""
    return f"PSNR {result.value:.2f} dB over {result.n}"


def _shape(store: "Store", index: int) -> tuple[int, int, float]:
    """(pixels of the shorter side, frames, frames per second) of a sample as it is shown."""
    data, kind = _shown(store, index)
    if kind == "video/mp4":
        import av

        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            side = min(stream.width, stream.height)
            return side, stream.frames, float(stream.average_rate or 8)
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return min(image.size), 1, 0


def _source(store: "Store", index: int) -> str:
    data, kind = _shown(store, index)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _shown(store: "Store", index: int) -> tuple[bytes, str]:
    """A sample as a browser shows it, and its media type."""
    path = store.file(index)
    if path.suffix == ".mkv":
        return _clip(store, index), "video/mp4"
    from PIL import Image

    with Image.open(path) as image:
        if min(image.size) < SIDE:
            return path.read_bytes(), "image/png"
        data = io.BytesIO()
        image.resize(_smaller(image.size)).save(data, "JPEG", quality=90)
    return data.getvalue(), "image/jpeg"


def _clip(store: "Store", index: int) -> bytes:
    """The preview of a clip; one that is large, or is not there, is made from the clip."""
    path = store.path / "previews" / f"{index:06d}.mp4"
    if path.is_file():
        import av

        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if min(stream.width, stream.height) <= SIDE:
                return path.read_bytes()
    from skipdit_cli.storage.codec import write_preview

    file = io.BytesIO()
    write_preview(file, _resized(store.read(index)))
    return file.getvalue()


def _resized(clip: "np.ndarray") -> "np.ndarray":
    import numpy as np
    from PIL import Image

    size = _smaller((clip.shape[2], clip.shape[1]))
    return np.stack([np.asarray(Image.fromarray(frame).resize(size)) for frame in clip])


def _smaller(size: tuple[int, int]) -> tuple[int, int]:
    factor = min(1, SIDE / min(size))
    width, height = (max(1, round(side * factor)) for side in size)
    return width, height


def _first(group: Group, count: int) -> Group:
    columns = tuple(replace(each, sources=each.sources[:count]) for each in group.columns)
    return replace(group, samples=group.samples[:count], columns=columns)


def _size(group: Group) -> int:
    return sum(len(source) for column in group.columns for source in column.sources)
