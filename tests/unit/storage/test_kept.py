"""A kept file says what was written there, or it is told in one line that it does not."""

import json
import os
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from safetensors.torch import save as save_tensors

from skipdit_cli.errors import SkipditWarning, StoreError
from skipdit_cli.storage import kept

KIND = kept.Kind("score", 3, fix="score again")
CONTENT = {"value": 31.25, "name": "é", "empty": {}, "list": [1, None, True]}
ARRAYS = {"pool": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([7], np.int64)}


def json_of(tmp_path, content=CONTENT, kind=KIND, of="run a, psnr"):
    path = tmp_path / "a.json"
    path.write_bytes(kept.sealed_json(content, kind, of=of))
    return path


def arrays_of(tmp_path, of="part 0"):
    path = tmp_path / "a.safetensors"
    path.write_bytes(kept.sealed_arrays(save(ARRAYS, metadata={"inputs": "ab"}), KIND, of=of))
    return path


def test_json_comes_back(tmp_path):
    path = json_of(tmp_path)
    assert kept.read_json(path, dict, KIND, of="run a, psnr") == CONTENT
    assert json.loads(path.read_text())["value"] == 31.25  # as plain JSON too
    assert kept.read_json(tmp_path / "none.json", dict, KIND, of="x") is None


def test_arrays_and_tensors_come_back(tmp_path):
    path = arrays_of(tmp_path)
    read = kept.read_arrays(path, dict, KIND, of="part 0")
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array)
    halves = {"states": torch.arange(5).bfloat16()}
    path.write_bytes(kept.sealed_arrays(save_tensors(halves), KIND, of="part 1"))
    assert torch.equal(kept.read_tensors(path, KIND, of="part 1")["states"], halves["states"])


@pytest.mark.few(1)
@pytest.mark.parametrize("make", [json_of, arrays_of])
def test_no_flipped_bit_changes_what_is_read(tmp_path, make):
    path = make(tmp_path)
    whole, of = path.read_bytes(), "run a, psnr" if make is json_of else "part 0"
    read = kept.read_json if make is json_of else kept.read_arrays

    def parse(content):
        return {key: value if make is json_of else value.tolist() for key, value in content.items()}

    right, told = read(path, parse, KIND, of=of), []
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            assert read(path, parse, KIND, of=of) == right  # between two words, say
        except StoreError as error:
            told.append(str(error))
    assert len(told) > 0.9 * 8 * len(whole)
    assert all(line.startswith(f"{path}: is not a readable score (") for line in told)
    assert all(line.endswith("; score again") for line in told)


@pytest.mark.parametrize("make", [json_of, arrays_of])
def test_no_truncated_file_is_read(tmp_path, make):
    path = make(tmp_path)
    read = kept.read_json if make is json_of else kept.read_arrays
    whole, of = path.read_bytes(), "run a, psnr" if make is json_of else "part 0"
    for size in range(len(whole) - 1):  # the last byte of JSON is a line break
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError, match="is not a readable score"):
            read(path, dict, KIND, of=of)


@pytest.mark.parametrize(
    ("kind", "of", "why"),
    [
        (KIND, "run b, psnr", "it is that of run b, psnr"),
        (kept.Kind("score", 2), "run a, psnr", "it is of version 2 and not 3"),
        (kept.Kind("count", 3), "run a, psnr", "it has no seal of one"),
    ],
)
def test_another_file_of_ours(tmp_path, kind, of, why):
    path = json_of(tmp_path, kind=kind, of=of)
    with pytest.raises(StoreError, match=rf"not a readable score \({why}[^\n]*\); score again"):
        kept.read_json(path, dict, KIND, of="run a, psnr")


def test_a_file_without_a_seal(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONTENT))
    with pytest.raises(StoreError, match="no seal of one: an older version wrote it, or another"):
        kept.read_json(path, dict, KIND, of="run a, psnr")
    path.write_bytes(save(ARRAYS))
    with pytest.raises(StoreError, match="no seal of one"):
        kept.read_arrays(path, dict, KIND, of="part 0")


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name, what in (("folder", "folder"), ("pipe", "device"), ("endless", "device")):
        with pytest.raises(StoreError, match=f"{name}: is a {what} where a score should be"):
            kept.read_json(tmp_path / name, dict, KIND, of="x")


def test_a_file_nested_too_deeply(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a":' * 100_000)
    with pytest.raises(StoreError, match="is not a readable score"):
        kept.read_json(path, dict, KIND, of="x")


def test_a_damaged_file_is_told_of_and_counts_as_absent(tmp_path):
    path = json_of(tmp_path)
    path.write_text(path.read_text().replace("31.25", "32.25"))
    with pytest.warns(SkipditWarning) as told, kept.damaged_is_absent():
        kept.read_json(path, dict, KIND, of="run a, psnr")
    assert [str(each.message) for each in told] == [
        f"{path}: is not a readable score (it was changed or damaged after it was written); "
        "it counts as absent"
    ]


def test_only_finite_numbers_are_sealed():
    with pytest.raises(ValueError, match="JSON compliant"):
        kept.sealed_json({"value": float("nan")}, KIND, of="x")


@dataclass(frozen=True)
class Shape:
    whole: int
    real: float | None
    flag: bool
    text: str
    pair: tuple[float, float] | None
    many: tuple[int, ...]
    notes: dict[str, str]


SOUND = {
    "whole": 3,
    "real": 1,
    "flag": True,
    "text": "x",
    "pair": (0.5, 1.0),
    "many": (1, 2, 3),
    "notes": {"a": "b"},
}


def test_a_record_of_the_right_shape():
    assert kept.shaped(Shape, SOUND) == Shape(**SOUND)
    assert kept.shaped(Shape, SOUND | {"real": None, "pair": None}).pair is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("whole", True),
        ("whole", 3.0),
        ("whole", "3"),
        ("real", float("inf")),
        ("real", float("nan")),
        ("real", True),
        ("flag", 1),
        ("text", None),
        ("pair", (1.0,)),
        ("pair", (1.0, "2")),
        ("many", (1, 2.5)),
        ("notes", {"a": 1}),
        ("notes", []),
    ],
)
def test_a_record_of_another_shape(name, value):
    with pytest.raises(ValueError, match=f"its {name} cannot be"):
        kept.shaped(Shape, SOUND | {name: value})


def test_a_record_with_other_keys():
    with pytest.raises(ValueError, match="unknown or missing: colour, whole"):
        kept.shaped(Shape, {k: v for k, v in SOUND.items() if k != "whole"} | {"colour": 1})
