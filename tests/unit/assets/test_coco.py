"""The choice of COCO's captions. tests/e2e/download has the download."""

import hashlib

import pytest

from skipdit_cli.assets import coco
from skipdit_cli.errors import MissingAssetError, UsageError


def entry(identity, image, caption):
    return {"id": identity, "image_id": image, "caption": caption}


def test_images_and_captions_are_drawn_by_their_hash():
    """The smallest sha256 of "SEED/ID" wins, among the captions of an image and among images."""
    rank = {i: hashlib.sha256(f"0/{i}".encode()).hexdigest() for i in range(40)}
    entries = [entry(10 * image + i, image, f"{image} {i}") for image in (1, 2, 3) for i in (0, 1)]
    first_two = sorted(sorted((1, 2, 3), key=rank.__getitem__)[:2])
    chosen = coco.choose(entries, count=2, seed=0)
    assert list(chosen) == first_two
    for image in first_two:
        best = min((10 * image, 10 * image + 1), key=rank.__getitem__)
        assert chosen[image] == f"{image} {best % 10}"
    assert coco.choose(list(reversed(entries)), count=2, seed=0) == chosen


def test_as_many_as_the_paper_has():
    assert (coco.COUNT, coco.SEED, coco.MEMBER) == (
        30_000,
        0,
        "annotations/captions_val2014.json",
    )


def test_another_seed_draws_others():
    entries = [entry(i, i, str(i)) for i in range(200)]
    assert coco.choose(entries, count=20, seed=0) != coco.choose(entries, count=20, seed=1)


def test_captions_are_one_line_each_and_empty_ones_are_left_out():
    entries = [entry(1, 1, "  two\nlines. "), entry(2, 2, " \n"), entry(3, 3, "x")]
    assert coco.choose(entries, count=2, seed=0) == {1: "two lines.", 3: "x"}
    with pytest.raises(MissingAssetError, match="captions of 2 images, not of 3"):
        coco.choose(entries, count=3, seed=0)


def test_another_archive_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    path = tmp_path / "mine.zip"
    with pytest.raises(UsageError, match="no such file"):
        coco.download(archive=path)
    path.write_bytes(b"zip")
    with pytest.raises(UsageError, match="is not COCO's archive: its sha256"):
        coco.download(archive=path)
    assert not (tmp_path / "home").exists()
