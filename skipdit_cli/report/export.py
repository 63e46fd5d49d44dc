"""Samples as files to give away: pictures and clips, with a table of what they are.

    FOLDER/RUN/0000.png    a sample; without the folder of the run where there is one run
    FOLDER/manifest.csv    a line for each: file, run, cache, model, index, seed, name, class or
                           prompt, scores

Blind, for people who judge: the folders of the runs are called A, B, C, ..., drawn by a seed, and
nothing in FOLDER tells which is which. That is in FOLDER-key.csv, beside it.
"""

import io
import os
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice, product
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.report import names
from skipdit_cli.storage import encoded
from skipdit_cli.storage.disk import HALF, on_disk, put
from skipdit_cli.storage.spreadsheet import csv_text

if TYPE_CHECKING:
    from skipdit_cli.storage.shelf import Shelved

FORMATS = ("png", "mkv", "mp4", "gif")
MANIFEST = "manifest.csv"
NAME = "{index:04d}"
SUBJECT = ("name", "class", "prompt")
OF_SAMPLE = ("index", *SUBJECT)  # fields that tell of a sample and not of its run
OF_RUN = ("run", "model", "cache", "seed")
FPS = 8  # of clips, as of previews
_EPOCH = 946_684_800  # 2000-01-01: when every file of a blind export was written


@dataclass(frozen=True, kw_only=True)
class Export:
    """What to write, and where.

    Attributes:
        folder: it is made.
        kind: of FORMATS; None for png of images and mp4 of clips.
        name: a template for the names of files, without ending.
        blind: for people who judge: names and files tell of no run.
        seed: by which a blind export names the runs.
    """

    folder: Path
    kind: str | None = None
    name: str = NAME
    blind: bool = False
    seed: int = 0

    @property
    def key(self) -> Path:
        """The file beside the folder that tells which run is which, of a blind export."""
        folder = self.folder.absolute()
        return folder.with_name(f"{folder.name}-key.csv")


@dataclass(frozen=True)
class Sample:
    """One sample that is to be written.

    Attributes:
        run: its run.
        values: the fields that it has.
        scores: by metric, those that are known.
        file: its file in the folder.
    """

    run: "Shelved"
    values: dict[str, Any]
    scores: dict[str, float] = field(default_factory=dict)
    file: Path = Path()


def plan(runs: "Sequence[Shelved]", export: Export) -> list[Sample]:
    """The samples that an export is to write, in the order of its manifest.

    Blind ones are those that all runs have.

    Raises:
        UsageError: the name has a field that there is not, a run has no samples, or none that can
            be of the format.
        StoreError: the disk.
    """
    fields = OF_SAMPLE if export.blind else (*OF_SAMPLE, *OF_RUN)
    why = " where nothing may tell of the run" if export.blind else ""
    used = names.fields_of(export.name, fields, place="--name", why=why)
    indices = {run.key: run.there for run in runs}
    if export.blind:
        common = set.intersection(*map(set, indices.values()))
        indices = {run.key: sorted(common) for run in runs}
    samples = []
    for label, run in _labelled(runs, export):
        if not indices[run.key]:
            problem = f"run {run.key} has no samples{' that the others have' * bool(run.there)}"
            raise UsageError(problem, place=str(run.root), fix="make them, or leave it out")
        ending = _ending(run, export)
        chosen = [_sample(run, index) for index in indices[run.key]]
        for name in used:
            if name not in chosen[0].values:
                have = ", ".join(f"{{{each}}}" for each in fields if each in chosen[0].values)
                raise UsageError(
                    f"samples of {run.model} have no {{{name}}}",
                    place="--name",
                    fix=f"there are {have}",
                )
        stems = [names.filled(export.name, each.values, place="--name") for each in chosen]
        samples += [
            Sample(each.run, each.values, each.scores, Path(label, f"{stem}.{ending}"))
            for each, stem in zip(chosen, names.numbered(stems), strict=True)
        ]
    return samples


def write(samples: Sequence[Sample], export: Export) -> Iterator[Path]:
    """Write samples, and when all are there their manifest; what is there already stays.

    Yields:
        Every file of a sample, as it is there.
    Raises:
        UsageError: there are other files in the folder, or others of the same names.
        StoreError: a sample is damaged, or the disk refuses.
    """
    folder = export.folder
    manifest = folder / MANIFEST
    _refuse_others(folder, {manifest, *(folder / each.file for each in samples)})
    if export.blind:
        _put(export.key, csv_text(_rows(samples, blind=False)).encode())
    for each in samples:
        path = folder / each.file
        pixels = each.run.store.read(each.values["index"])
        _put(path, _bytes(pixels, path.suffix))
        yield path
    _put(manifest, csv_text(_rows(samples, blind=export.blind)).encode())
    if export.blind:
        with on_disk(folder):
            for path in [*folder.rglob("*"), folder]:
                os.utime(path, (_EPOCH, _EPOCH))


def _labelled(runs: "Sequence[Shelved]", export: Export) -> "list[tuple[str, Shelved]]":
    """The runs with the names of their folders, in the order of these."""
    if export.blind:
        words = (product(string.ascii_uppercase, repeat=length) for length in count(1))
        letters = ("".join(word) for same in words for word in same)
        shuffled = Random(export.seed).sample(runs, len(runs))
        return list(zip(islice(letters, len(runs)), shuffled, strict=True))
    if len(runs) == 1:
        return [("", runs[0])]
    several = len({run.model for run in runs}) > 1
    called = [names.safe(f"{run.model} {run.cache}" if several else run.cache) for run in runs]
    if len(set(called)) < len(called):
        called = [f"{name}-{run.short}" for name, run in zip(called, runs, strict=True)]
    shorter = names.numbered([names.cut(name, names.LONGEST) for name in called])
    return list(zip(shorter, runs, strict=True))


def _ending(run: "Shelved", export: Export) -> str:
    """The ending of the files of a run."""
    clip = run.store.file(run.there[0]).suffix == ".mkv"
    if export.kind in ("mkv", "mp4") and not clip:
        raise UsageError(
            f"the samples of {run.short} ({run.model}) are images",
            place=f"--format {export.kind}",
            fix="take png",
        )
    return export.kind or ("mp4" if clip else "png")


def _sample(run: "Shelved", index: int) -> Sample:
    scores = {
        result.metric: result.of_samples[index]
        for result in run.numbers
        if index < len(result.of_samples)
    }
    meta = run.store.meta(index)
    subject = {name: meta[name] for name in SUBJECT if name in meta}
    of_run = {"run": run.key, "model": run.model, "cache": run.cache, "seed": run.seed(index)}
    return Sample(run, {"index": index, **subject, **of_run}, scores)


def _bytes(pixels: np.ndarray, suffix: str) -> bytes:
    """Pixels, uint8 [H, W, 3] or [T, H, W, 3], as a file; a clip as png is a strip of frames."""
    clip = pixels.ndim == 4
    if suffix == ".mkv":
        return encoded.encode(pixels)
    if suffix == ".mp4":
        return encoded.preview(pixels)
    if suffix == ".png":
        return encoded.encode(np.concatenate(list(pixels), axis=1) if clip else pixels)
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in (pixels if clip else [pixels]))
    file = io.BytesIO()
    more = {"save_all": True, "append_images": rest, "duration": 1000 // FPS, "loop": 0}
    first.save(file, format="GIF", **(more if clip else {}))
    return file.getvalue()


def _rows(samples: Sequence[Sample], *, blind: bool) -> Iterator[list[Any]]:
    """The manifest: its head, and a row per sample."""
    there = {name for each in samples for name in each.values}
    subject = [name for name in SUBJECT if name in there]
    columns = ["index", *subject] if blind else ["run", "cache", "model", "index", "seed", *subject]
    metrics = [] if blind else sorted({name for each in samples for name in each.scores})
    yield ["file", *columns, *metrics]
    for each in samples:
        known = [each.values.get(name, "") for name in columns]
        yield [each.file.as_posix(), *known, *(each.scores.get(name, "") for name in metrics)]


def _refuse_others(folder: Path, ours: set[Path]) -> None:
    """Remove what a killed export left half-written; UsageError where there are other files."""
    with on_disk(folder):
        for path in folder.rglob("*"):
            half = HALF.fullmatch(path.name)
            if half and path.with_name(half["name"]) in ours:
                path.unlink()
            elif not path.is_dir() and path not in ours:
                raise UsageError(
                    f"there are other files in it, as {path.relative_to(folder)}",
                    place=f"--out {folder}",
                    fix="take another folder",
                )


def _put(path: Path, data: bytes) -> None:
    """Write a file, unless it is there; UsageError where another one is."""
    with on_disk(path):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            put(path, data)
            return
        same = path.is_file() and path.read_bytes() == data
    if not same:
        raise UsageError(
            "is there already, and is another file", place=str(path), fix="take another folder"
        )
