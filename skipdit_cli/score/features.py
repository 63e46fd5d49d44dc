"""What metrics see in samples, kept in chunks beside them: scoring resumes, and streams.

    <folder>/000000-000064.safetensors    arrays whose first axis runs over samples 0 to 63

A chunk holds a digest of the samples it came from, and is made again when they have changed, or
when it is not what was written.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.precision import products
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import read_metadata, write_whole

Arrays = dict[str, np.ndarray]
Item = TypeVar("Item")


class Readable(Protocol):
    """Samples that are read one by one, and have a name for errors."""

    def read(self, index: int) -> np.ndarray: ...
    def place(self, index: int) -> str: ...


CHUNK = kept.Kind("part of features", 2)
AHEAD = 4  # items that are read beforehand, per worker


def lacking(folder: Path, *, inputs: Sequence[str], size: int) -> list[int]:
    """The numbers of the chunks that are not there, seen from their heads; as `chunks`."""
    parts = parts_of(len(inputs), size)
    return [i for i, part in enumerate(parts) if not _known(folder, part, inputs)]


def parts_of(n: int, size: int) -> list[range]:
    """The samples of every chunk."""
    return [range(start, min(start + size, n)) for start in range(0, n, size)]


def chunks(
    folder: Path,
    *,
    inputs: Sequence[str],
    size: int,
    read: Callable[[int], Item],
    compute: Callable[[range, list[Item]], Arrays],
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    only: Sequence[int] | None = None,
) -> Iterator[Arrays]:
    """Arrays of all samples, chunk by chunk; only what is not there yet is read and computed.

    Args:
        folder: where the chunks are.
        inputs: a hash of every sample.
        size: samples in a chunk.
        read: a sample, in one of `workers` threads, a few ahead of what is computed.
        compute: the arrays of a chunk, from its indices and samples.
        progress: called with samples done and samples in all, for a chunk that is there already;
            `compute` tells of the others.
        only: the numbers of the chunks that are wanted; all by default.
    Raises:
        StoreError: a chunk cannot be written.
    """
    parts = parts_of(len(inputs), size)
    if only is not None:
        parts = [parts[i] for i in only]
    known = [_known(folder, part, inputs) for part in parts]
    rest = [i for part, here in zip(parts, known, strict=True) if not here for i in part]
    items = ahead(read, rest, workers=workers)
    for part, here in zip(parts, known, strict=True):
        file, digest = _file(folder, part), _digest(part, inputs)
        of = f"{folder.name} {file.stem} {digest}"
        arrays: Arrays | None = None
        if here:
            with kept.damaged_is_absent():
                arrays = kept.read_arrays(file, dict, CHUNK, of=of)
        if arrays is not None:
            if progress:
                progress(part.stop, len(inputs))
        else:  # one that is damaged was not counted among what is read ahead
            source = ahead(read, part, workers=workers) if here else items
            with products("float32"):  # in whatever process
                arrays = compute(part, list(islice(source, len(part))))
            _save(file, arrays, digest, of=of)
        yield arrays


def require_one_size(part: range, items: Sequence[np.ndarray], samples: "Readable") -> None:
    """Raise a UsageError that names the first sample of a chunk of another size than the first."""
    first = items[0] if part.start == 0 else samples.read(0)
    for index, item in zip(part, items, strict=True):
        if item.shape != first.shape:
            raise UsageError(
                f"is {_size(item)}, and {samples.place(0)} {_size(first)}",
                place=samples.place(index),
                fix="such a metric looks at samples of one size; make them alike",
            )


def _size(sample: np.ndarray) -> str:
    size = f"{sample.shape[-2]}x{sample.shape[-3]}"
    return f"{len(sample)} frames of {size}" if sample.ndim == 4 else size


def _file(folder: Path, part: range) -> Path:
    return folder / f"{part.start:06d}-{part.stop:06d}.safetensors"


def _digest(part: range, inputs: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(inputs[part.start : part.stop]).encode()).hexdigest()


def _known(folder: Path, part: range, inputs: Sequence[str]) -> bool:
    return read_metadata(_file(folder, part)).get("inputs") == _digest(part, inputs)


def ahead(read: Callable[[int], Item], indices: Sequence[int], *, workers: int) -> Iterator[Item]:
    """The items of the indices, in order, read by threads a few ahead of what is asked for."""
    rest = iter(indices)
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[Item]] = deque()
        try:
            for index in rest:
                pending.append(pool.submit(read, index))
                if len(pending) > AHEAD * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _save(file: Path, arrays: Arrays, digest: str, *, of: str) -> None:
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    data = save(whole, metadata={"inputs": digest})
    write_whole(file, kept.sealed_arrays(data, CHUNK, of=of))
