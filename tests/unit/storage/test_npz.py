"""The npz of the ADM evaluator: read in place, written for others, refused where it is none."""

import math
import pickle
import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skipdit_cli.errors import IncompleteError, StoreError, UsageError
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.storage import npz
from skipdit_cli.storage.npz import NpzSamples, statistics, write_npz
from skipdit_cli.storage.store import open_store

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_are_read_from_both_kinds_of_file(tmp_path, save):
    save(tmp_path / "a.npz", mu=np.zeros(3), arr_0=IMAGES, arr_1=np.arange(5))
    samples = NpzSamples(tmp_path / "a.npz")
    assert len(samples) == 5
    for i in (4, 0, 2):
        np.testing.assert_array_equal(samples.read(i), IMAGES[i])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_in_the_other_order(tmp_path, save):
    save(tmp_path / "a.npz", arr_0=np.asfortranarray(IMAGES))
    np.testing.assert_array_equal(NpzSamples(tmp_path / "a.npz").read(3), IMAGES[3])


LABELS = {
    "plain": np.arange(5),
    "one-hot": np.eye(5),
    "column": np.arange(5)[:, None],
    "too few": np.arange(2),
    "names": np.array(["cat"] * 5),
    "objects": np.array(["cat"] * 5, dtype=object),
    "none of them": np.zeros(0),
}


@pytest.mark.parametrize("kind", LABELS)
def test_whatever_the_labels_are_the_images_are_the_same(tmp_path, kind):
    """No metric of an npz asks for labels, so they are not even unpacked."""
    np.savez_compressed(tmp_path / "a.npz", arr_0=IMAGES, arr_1=LABELS[kind])
    samples = NpzSamples(tmp_path / "a.npz")
    np.testing.assert_array_equal(samples.read(4), IMAGES[4])
    assert samples.meta(4) == {}


def test_hashes_follow_the_file(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=IMAGES)
    np.savez(tmp_path / "b.npz", arr_0=255 - IMAGES)
    a, b = NpzSamples(tmp_path / "a.npz"), NpzSamples(tmp_path / "b.npz")
    assert len(set(a.hashes(5))) == 5
    assert not set(a.hashes(5)) & set(b.hashes(5))


class Bomb:
    def __reduce__(self):
        return open, ("exploded", "w")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"arr_0": IMAGES.astype(np.float32)}, r"arr_0 is float32 \[5, 6, 4, 3\]"),
        ({"arr_0": IMAGES[..., :2]}, r"arr_0 is uint8 \[5, 6, 4, 2\]"),
        ({"arr_0": IMAGES[:0]}, r"arr_0 is uint8 \[0, 6, 4, 3\]"),
        ({"arr_0": IMAGES[:, :0]}, r"arr_0 is uint8 \[5, 0, 4, 3\]"),
        ({"arr_0": IMAGES.astype([("r", "u1")])}, r"arr_0 is \[\('r', 'u1'\)\] "),
        ({"images": IMAGES}, "is no npz with images in arr_0"),
        ({"arr_0": np.array([Bomb()], dtype=object)}, "is no npz with images in arr_0"),
    ],
)
def test_other_content_is_refused(tmp_path, monkeypatch, content, problem):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(UsageError, match=rf"a\.npz: {problem}"):
        NpzSamples(tmp_path / "a.npz")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["mu", "sigma"])
def test_no_code_of_statistics_is_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    sound = {"mu": np.zeros(1), "sigma": np.eye(1)}
    np.savez(tmp_path / "a.npz", **sound | {name: np.array([Bomb()], dtype=object)})
    with pytest.raises(UsageError):
        statistics(tmp_path / "a.npz", "mu", "sigma")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_a_damaged_file_is_refused(tmp_path, damage):
    path = tmp_path / "a.npz"
    np.savez(path, arr_0=IMAGES)
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    with pytest.raises(UsageError, match=r"a\.npz: is no npz"):
        NpzSamples(path)
    with pytest.raises(UsageError, match=r"absent\.npz: no such file; give an npz"):
        NpzSamples(tmp_path / "absent.npz")


def member(header, *, version=1, length=None):
    """The bytes of an npy."""
    data = IMAGES.tobytes()
    text = header.encode() if isinstance(header, str) else str(header).encode()
    size = len(text) if length is None else length
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + size.to_bytes(2 if version == 1 else 4, "little")
        + (text + data)
    )


def described(shape, descr="|u1"):
    return {"descr": descr, "fortran_order": False, "shape": shape}


HEADERS = {
    "negative": (member(described((-5, 6, -4, 3))), "its shape is"),
    "truth values": (member(described((True, 6, 20, 3))), "its shape is"),
    "fractions": (member(described((5.0, 6, 4, 3))), ""),
    "longer than the data": (member(described((6, 6, 4, 3))), "arr_0 has 360 bytes for"),
    "shorter than the data": (member(described((4, 6, 4, 3))), "arr_0 has 360 bytes for"),
    "huge": (member(described((2**62, 6, 4, 3))), "arr_0 has 360 bytes for"),
    "more than a number holds": (member(described((2**70, 2**70, 2**70, 3))), "arr_0 has 360"),
    "nested": (member("(" * 9000), ""),
    "code": (member("__import__('os').mkdir('ran')"), ""),
    "no header": (b"\x93NUMPY\x01\x00", ""),
    "a header of 4 GB": (member(described((5, 6, 4, 3)), version=2, length=2**32 - 1), ""),
    "another version": (member(described((5, 6, 4, 3)), version=9), "npy version"),
    "no npy": (b"hello", ""),
    "nothing": (b"", ""),
}


@pytest.mark.filterwarnings("ignore")  # numpy's and Python's, on a header that is no literal
@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_is_not_that_of_the_images(tmp_path, monkeypatch, name, packing):
    monkeypatch.chdir(tmp_path)
    content, said = HEADERS[name]
    with zipfile.ZipFile("a.npz", "w", packing) as archive:
        archive.writestr("arr_0.npy", content)
        archive.writestr("other.npy", bytes(10_000))  # there is more in the file behind it
    with pytest.raises(UsageError, match=r"^a\.npz: is no npz with images in arr_0 \(") as caught:
        NpzSamples(Path("a.npz"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_bit_that_fell_over_is_noticed(tmp_path, save):
    """Far behind the header, in images and not in what tells of them."""
    path = tmp_path / "a.npz"
    save(path, arr_0=np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8))
    whole = bytearray(path.read_bytes())
    whole[len(whole) * 3 // 4] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UsageError, match=r"a\.npz: is no npz with images in arr_0 \("):
        NpzSamples(path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packed_in_a_way_that_nobody_packs_an_npz(tmp_path, packing):
    np.savez(tmp_path / "a.npz", arr_0=IMAGES)
    with (
        zipfile.ZipFile(tmp_path / "a.npz") as plain,
        zipfile.ZipFile(tmp_path / "b.npz", "w", packing) as packed,
    ):
        packed.writestr("arr_0.npy", plain.read("arr_0.npy"))
    with pytest.raises(UsageError, match="arr_0 is packed in a way that numpy does not know"):
        NpzSamples(tmp_path / "b.npz")


def bomb(path, name, shape, descr="|u1"):
    """A member of zeros, packed a thousand times."""
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as content,
    ):
        np.lib.format.write_array_header_1_0(content, described(shape, descr))
        for _ in range(shape[0]):
            content.write(bytes(math.prod(shape[1:]) * np.dtype(descr).itemsize))


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """The bound is on how many times, so that small files of flat images are not held up."""
    monkeypatch.setattr(npz, "ANYWAY", 10**6)
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    bomb(tmp_path / "a.npz", "arr_0", (400, 64, 64, 3))
    said = r"arr_0\.npy would unpack from \d+ to 4915328 bytes, more than 30 times as many"
    with pytest.raises(UsageError, match=said):
        NpzSamples(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", arr_0=IMAGES)
    bomb(tmp_path / "b.npz", "arr_1", (400, 64, 64, 3))  # nobody reads it
    assert len(NpzSamples(tmp_path / "b.npz")) == 5
    monkeypatch.setattr(npz, "MOST_STATISTICS", 10**6)
    np.savez(tmp_path / "c.npz", mu=np.zeros(400))
    bomb(tmp_path / "c.npz", "sigma", (400, 400), "<f8")
    with pytest.raises(
        UsageError, match=r"c\.npz: cannot be read \(sigma has 1280128 bytes, at most"
    ):
        statistics(tmp_path / "c.npz", "mu", "sigma")


def test_packed_images_need_room(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", arr_0=IMAGES)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=100))
    with pytest.raises(UsageError, match=r"a\.npz: unpacks to 488 bytes, and .* room for 100"):
        NpzSamples(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("mean", "covariance", "said"),
    [
        (np.array([0, np.nan]), np.eye(2), "mu or sigma is not finite everywhere"),
        (np.zeros(2), np.diag([1, np.inf]), "mu or sigma is not finite everywhere"),
        (np.zeros(2), np.array([[1.0, 2.0], [0.0, 1.0]]), "sigma is not symmetric"),
        (np.zeros(2, complex), np.eye(2), r"cannot be read \(mu is complex128, not real numbers\)"),
        (np.zeros(2), np.array([["a", "b"]] * 2), r"cannot be read \(sigma is <U1, not real"),
        (np.array([0, None]), np.eye(2), r"cannot be read \(it holds objects\)"),
        (np.zeros((1, 2)), np.eye(2), r"mu \[1, 2\] and sigma \[2, 2\] do not fit"),
    ],
)
def test_statistics_that_are_none(tmp_path, mean, covariance, said):
    np.savez(tmp_path / "a.npz", mu=mean, sigma=covariance)
    with pytest.raises(UsageError, match=rf"a\.npz: {said}"):
        statistics(tmp_path / "a.npz", "mu", "sigma")


def test_statistics_in_other_orders_and_types(tmp_path):
    sigma = np.array([[2.0, 1.0], [1.0, 3.0]])
    np.savez_compressed(
        tmp_path / "a.npz", mu=np.arange(2, dtype=">i4"), sigma=np.asfortranarray(sigma, ">f4")
    )
    mean, covariance = statistics(tmp_path / "a.npz", "mu", "sigma")
    np.testing.assert_array_equal(mean, [0, 1])
    np.testing.assert_array_equal(covariance, sigma)


def test_statistics(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, mu=np.arange(3, dtype=np.float32), sigma=np.eye(3), mu_s=np.zeros(2))
    mean, covariance = statistics(path, "mu", "sigma")
    assert (mean.dtype, covariance.dtype) == (np.float64, np.float64)
    np.testing.assert_array_equal(mean, [0, 1, 2])
    assert statistics(path, "mu_s", "sigma_s") is None
    with pytest.raises(UsageError, match="do not fit"):
        statistics(path, "mu_s", "sigma")
    with (tmp_path / "b.npz").open("wb") as file:
        pickle.dump({"mu": 1}, file)
    with pytest.raises(UsageError, match=r"b\.npz: cannot be read"):
        statistics(tmp_path / "b.npz", "mu", "sigma")


def test_what_is_written_is_what_was_made(tmp_path):
    run = make_run("digits", "none", {"num_samples": 5})
    store = open_store(tmp_path, run)
    for i, image in enumerate(IMAGES):
        store.write(i, image, meta={"class": 9 - i})
    write_npz(tmp_path / "out" / "a.npz", store, 5)
    with np.load(tmp_path / "out" / "a.npz") as content:  # as the evaluator reads it
        np.testing.assert_array_equal(content["arr_0"], IMAGES)
        np.testing.assert_array_equal(content["arr_1"], [9, 8, 7, 6, 5])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.npz"]
    with pytest.raises(IncompleteError):
        write_npz(tmp_path / "b.npz", open_store(tmp_path, replace(run, num_samples=6)), 6)
    assert not (tmp_path / "b.npz").exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file: a file is where a folder should be"):
        write_npz(tmp_path / "file" / "a.npz", store, 5)


def test_a_sample_that_cannot_be_read_leaves_no_torn_npz(tmp_path):
    store = open_store(tmp_path / "results", make_run("digits", "none", {"num_samples": 5}))
    for i, image in enumerate(IMAGES):
        store.write(i, image, meta={})
    store.require = lambda n: None  # it is damaged only afterwards
    store.file(3).write_bytes(b"?")
    with pytest.raises(StoreError, match=r"000003\.png: the file is damaged"):
        write_npz(tmp_path / "out" / "a.npz", store, 5)
    assert list((tmp_path / "out").iterdir()) == []


def test_clips_have_no_npz(tmp_path):
    run = make_run("moving-digits", "none", {"num_samples": 1})
    store = open_store(tmp_path, run)
    store.write(0, IMAGES, meta={})
    with pytest.raises(UsageError, match="an npz holds images, not clips"):
        write_npz(tmp_path / "a.npz", store, 1)
