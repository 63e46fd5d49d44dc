"""Chunks of features: made once, streamed, and made again where samples have changed."""

import threading

import numpy as np
import pytest

from skipdit_cli.score.features import ahead, chunks


def scored(folder, inputs, *, size=2, **more):
    """The chunks, and the indices that were computed for them."""
    made = []

    def compute(part, items):
        made.extend(part)
        return {"x": np.array(items, dtype=np.float64)}

    found = list(
        chunks(folder, inputs=inputs, size=size, read=lambda i: 10.0 * i, compute=compute, **more)
    )
    return [chunk["x"].tolist() for chunk in found], made


def test_chunks_hold_all_samples_in_order_and_are_made_once(tmp_path):
    told = []
    values = [[0, 10], [20, 30], [40]]
    assert scored(tmp_path, list("abcde"), workers=3) == (values, [0, 1, 2, 3, 4])
    again = scored(tmp_path, list("abcde"), progress=lambda i, n: told.append((i, n)))
    assert again == (values, [])
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_only_the_chunk_of_a_changed_sample_is_made_again(tmp_path):
    scored(tmp_path, list("abcde"))
    assert scored(tmp_path, list("abXde"))[1] == [2, 3]
    assert scored(tmp_path, list("abXYe"))[1] == [2, 3]  # whichever of the chunk it is
    assert scored(tmp_path, list("abXYef"))[1] == [4, 5]


@pytest.mark.parametrize("damage", [b"", b"no tensors", None])
def test_a_damaged_chunk_is_made_again(tmp_path, damage):
    scored(tmp_path, list("abcd"))
    file = tmp_path / "000002-000004.safetensors"
    file.write_bytes(file.read_bytes()[:-3] if damage is None else damage)
    assert scored(tmp_path, list("abcd")) == ([[0, 10], [20, 30]], [2, 3])


def test_what_was_made_before_an_error_is_kept(tmp_path):
    def compute(part, items):
        if part.start == 4:
            raise RuntimeError("killed")
        return {"x": np.array(items)}

    with pytest.raises(RuntimeError, match="killed"):
        list(chunks(tmp_path, inputs=list("abcdef"), size=2, read=float, compute=compute))
    assert scored(tmp_path, list("abcdef"))[1] == [4, 5]


def test_reading_goes_on_while_the_first_item_is_looked_at():
    read, enough = [], threading.Event()

    def one(i):
        read.append(i)
        if len(read) >= 4:
            enough.set()
        return i

    items = ahead(one, range(1000), workers=2)
    assert next(items) == 0
    assert enough.wait(timeout=120)
    assert len(read) < 30  # and no further: memory does not grow with the number of samples
    assert list(items) == list(range(1, 1000))


def test_an_error_of_a_reader_reaches_the_one_who_asked():
    def one(i):
        if i == 3:
            raise ValueError("sample 3")
        return i

    items = ahead(one, range(10), workers=2)
    with pytest.raises(ValueError, match="sample 3"):
        list(items)
