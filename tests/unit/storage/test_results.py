"""Results on disk: what is saved comes back, and nothing else passes for it."""

import errno
import json
import os
import re
from dataclasses import replace

import pytest

from skipdit_cli.errors import SkipditError, SkipditWarning, StoreError
from skipdit_cli.storage import kept, results
from skipdit_cli.storage.results import Result

PSNR = Result(
    metric="psnr",
    value=31.25,
    unit="dB",
    n=16,
    run="0123456789abcdef",
    reference="fedcba9876543210",
    spread=2.5,
    interval=(30.0, 32.5),
    version=1,
    inputs="00ff",
    provenance={"skipdit": "0.1.0", "dirty": None},
)


def path_of(root, result):
    return root / "scores" / result.run / f"{result.metric}.json"


def test_what_is_saved_comes_back(tmp_path):
    path = results.write_result(tmp_path, PSNR)
    assert path == tmp_path / "scores" / "0123456789abcdef" / "psnr.json"
    assert results.read_result(tmp_path, PSNR.run, "psnr") == PSNR
    assert json.loads(path.read_text())["value"] == 31.25


def test_a_result_without_a_value(tmp_path):
    bare = Result(metric="fid@digits", value=None, unit="", n=4, run="ab", status="needs weights")
    results.write_result(tmp_path, bare)
    assert results.read_result(tmp_path, "ab", "fid@digits") == bare


def test_a_later_result_takes_the_place_of_an_earlier_one(tmp_path):
    results.write_result(tmp_path, PSNR)
    results.write_result(tmp_path, replace(PSNR, value=32.0))
    assert results.read_result(tmp_path, PSNR.run, "psnr") == replace(PSNR, value=32.0)
    assert [path.name for path in path_of(tmp_path, PSNR).parent.iterdir()] == ["psnr.json"]


def test_a_score_of_fewer_samples_stands_beside_that_of_more(tmp_path):
    """Whoever asks for no number of samples sees the score of the most."""
    few, more = replace(PSNR, n=4, value=30.0), replace(PSNR, n=32, value=33.0)
    results.write_result(tmp_path, PSNR)
    assert results.write_result(tmp_path, few) != path_of(tmp_path, PSNR)
    assert results.read_result(tmp_path, PSNR.run, "psnr") == PSNR
    assert results.read_result(tmp_path, PSNR.run, "psnr", n=4) == few
    assert results.read_result(tmp_path, PSNR.run, "psnr", n=16) == PSNR
    assert results.read_result(tmp_path, PSNR.run, "psnr", n=5) == PSNR
    results.write_result(tmp_path, more)
    assert results.read_result(tmp_path, PSNR.run, "psnr") == more


@pytest.mark.parametrize("other", [{"version": 2}, {"protocol": "p"}, {"assets": {"net": "0f"}}])
def test_by_another_metric_fewer_samples_take_the_place_of_more(tmp_path, other):
    few = replace(PSNR, n=4, **other)
    results.write_result(tmp_path, PSNR)
    results.write_result(tmp_path, few)
    assert results.read_result(tmp_path, PSNR.run, "psnr") == few


def test_each_run_and_metric_has_its_own(tmp_path):
    stored = [replace(PSNR, run=run, metric=m) for run in "ab" for m in ("fvd@digits", "psnr")]
    for result in stored:
        results.write_result(tmp_path, result)
    assert [results.read_result(tmp_path, each.run, each.metric) for each in stored] == stored


def test_none_yet(tmp_path):
    assert results.read_result(tmp_path, "ab", "psnr") is None


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["value", "spread", "interval"])
def test_only_finite_numbers_are_saved(tmp_path, number, where):
    results.write_result(tmp_path, PSNR)
    bad = replace(PSNR, **{where: (0.0, number) if where == "interval" else number})
    with pytest.raises(SkipditError, match="psnr of run 0123456789abcdef is not finite"):
        results.write_result(tmp_path, bad)
    assert results.read_result(tmp_path, PSNR.run, "psnr") == PSNR


def test_a_failing_disk_keeps_the_old_result(tmp_path, monkeypatch):
    path = results.write_result(tmp_path, PSNR)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(StoreError, match=r"psnr\.json: no space left on device; free some"):
            results.write_result(tmp_path, replace(PSNR, value=0.0))
    assert results.read_result(tmp_path, PSNR.run, "psnr") == PSNR
    assert [file.name for file in path.parent.iterdir()] == ["psnr.json"]


def test_a_process_interrupted_while_saving_leaves_the_old_result(tmp_path, monkeypatch):
    path = results.write_result(tmp_path, PSNR)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            results.write_result(tmp_path, replace(PSNR, value=0.0))
    assert [file.name for file in path.parent.iterdir()] == ["psnr.json"]
    assert results.read_result(tmp_path, PSNR.run, "psnr") == PSNR


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "scores").write_text("")
    with pytest.raises(StoreError, match="scores: a file is where a folder should be"):
        results.write_result(tmp_path, PSNR)
    with pytest.raises(StoreError, match="scores: a file is where a folder should be"):
        results.read_result(tmp_path, PSNR.run, "psnr")


def resealed(change):
    """A change by somebody who can seal."""

    def changed(text):
        record = json.loads(text)
        of = record.pop("seal")["of"]
        return kept.sealed_json(change(record), results.RESULT, of=of).decode()

    return changed


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text[: len(text) // 2], id="truncated"),
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text.replace("31.25", "31.26"), id="another value"),
        pytest.param(lambda text: text.replace("31.25", "NaN"), id="nan"),
        pytest.param(lambda text: f"[{text}]", id="a list"),
        pytest.param(resealed(lambda record: record | {"colour": "red"}), id="unknown key"),
        pytest.param(
            resealed(lambda record: {k: record[k] for k in record if k != "assets"}),
            id="a key missing",
        ),
        pytest.param(resealed(lambda record: {"metric": "psnr"}), id="keys missing"),
        pytest.param(resealed(lambda record: record | {"value": "31.25"}), id="text for a number"),
        pytest.param(resealed(lambda record: record | {"value": True}), id="yes for a number"),
        pytest.param(resealed(lambda record: record | {"n": "x"}), id="text for a count"),
        pytest.param(resealed(lambda record: record | {"n": -1}), id="a negative count"),
        pytest.param(resealed(lambda record: record | {"spread": -5}), id="a negative spread"),
        pytest.param(resealed(lambda record: record | {"status": "fine"}), id="unknown status"),
        pytest.param(resealed(lambda record: record | {"interval": 3}), id="no interval"),
    ],
)
def test_a_file_that_is_no_result(tmp_path, change):
    path = results.write_result(tmp_path, PSNR)
    path.write_text(change(path.read_text()))
    place = re.escape(f"{path}: is not a readable score (")
    with pytest.warns(SkipditWarning, match=f"^{place}[^\n]+; it counts as absent$"):
        assert results.read_result(tmp_path, PSNR.run, "psnr") is None


@pytest.mark.parametrize("other", [replace(PSNR, metric="ssim"), replace(PSNR, run="ab")])
def test_a_result_in_the_place_of_another(tmp_path, other):
    path = results.write_result(tmp_path, PSNR)
    path.write_bytes(results.write_result(tmp_path, other).read_bytes())
    with pytest.warns(SkipditWarning, match=f"it is that of run {other.run}, {other.metric}"):
        assert results.read_result(tmp_path, PSNR.run, "psnr") is None


def test_bytes_that_are_no_text(tmp_path):
    path = results.write_result(tmp_path, PSNR)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.warns(SkipditWarning, match="it counts as absent"):
        assert results.read_result(tmp_path, PSNR.run, "psnr") is None
