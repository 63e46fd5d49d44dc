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
from typing import TypeVar

import numpy as np

from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import read_metadata, write_whole

Arrays = dict[str, np.ndarray]
Item = TypeVar("Item")

CHUNK = kept.Kind("part of features", 2)
AHEAD = 4  # items that are read beforehand, per worker


def chunks(
    folder: Path,
    *,
    inputs: Sequence[str],
    size: int,
    read: Callable[[int], Item],
    compute: Callable[[range, list[Item]], Arrays],
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
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
    Raises:
        StoreError: a chunk cannot be written.
    """
    n = len(inputs)
    parts = [range(start, min(start + size, n)) for start in range(0, n, size)]
    digests = [
        hashlib.sha256(json.dumps(inputs[part.start : part.stop]).encode()).hexdigest()
        for part in parts
    ]
    files = [folder / f"{part.start:06d}-{part.stop:06d}.safetensors" for part in parts]
    known = [
        read_metadata(file).get("inputs") == digest
        for file, digest in zip(files, digests, strict=True)
    ]
    lacking = [i for part, here in zip(parts, known, strict=True) if not here for i in part]
    items = ahead(read, lacking, workers=workers)
    for part, file, digest, here in zip(parts, files, digests, known, strict=True):
        of = f"{folder.name} {file.stem} {digest}"
        arrays: Arrays | None = None
        if here:
            with kept.damaged_is_absent():
                arrays = kept.read_arrays(file, dict, CHUNK, of=of)
        if arrays is not None:
            if progress:
                progress(part.stop, n)
        else:  # one that is damaged was not counted among what is read ahead
            source = ahead(read, part, workers=workers) if here else items
            arrays = compute(part, list(islice(source, len(part))))
            _save(file, arrays, digest, of=of)
        yield arrays


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
