"""Scores of runs in a real store: the protocol's means, what is refused, when it is redone."""

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog
from skipdit_cli.errors import (
    IncompleteError,
    MissingAssetError,
    SkipditWarning,
    UsageError,
)
from skipdit_cli.metrics import Extractor
from skipdit_cli.precision import products
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score import reference
from skipdit_cli.score.measure import How, measure, measure_outside
from skipdit_cli.score.outside import taken
from skipdit_cli.storage import codec, results
from skipdit_cli.storage.store import open_store

RUN = replace(
    make_run(
        "digits-skip",
        "skip-cache(n=2,window=1000-20,branch=1)",
        {"sampler": "ddim", "steps": "20", "guidance": None, "num_samples": 3, "batch_size": 16},
    ),
    weights="00",
)


def grey(level, *shape):
    return np.full((*(shape or (16, 16)), 3), level, np.uint8)


def fill(root, run, levels):
    """Grey samples of these levels; sample i is of class i."""
    store = open_store(root, run)
    for i, level in enumerate(levels):
        store.write(i, grey(level), meta={"class": i})
    return store


def decibels(error):
    return 20 * np.log10(255 / error)


@pytest.fixture
def pairs(tmp_path):
    """Three samples that differ from black ones by 10, 20 and 40."""
    fill(tmp_path, RUN.reference, [0, 0, 0])
    fill(tmp_path, RUN, [10, 20, 40])
    return tmp_path


@pytest.fixture
def scored(monkeypatch):
    """Stands in for PSNR: the score is the sample's level; counts how often it was asked."""
    module, calls = registry.load("metrics", "psnr"), []
    registry.load("metrics", "psnr@videosys")  # takes the real one when it is first imported

    def score(reference, sample):
        calls.append(int(sample.flat[0]))
        return float(sample.flat[0])

    monkeypatch.setattr(module, "score", score)
    return calls


def test_pairs_by_hand(pairs):
    result = measure(RUN, "psnr", root=pairs)
    scores = [decibels(10), decibels(20), decibels(40)]
    assert result.value == pytest.approx(np.mean(scores))
    assert result.spread == pytest.approx(decibels(10) - decibels(20))  # even steps: ddof 1
    assert (result.metric, result.unit, result.n, result.status) == ("psnr", "dB", 3, "ok")
    assert (result.run, result.reference) == (RUN.key, RUN.reference.key)
    assert result.provenance["skipdit"]
    low, high = result.interval
    assert min(scores) <= low < result.value < high <= max(scores)


def test_scores_are_computed_in_strict_float32(pairs, monkeypatch):
    flags = []

    def score(reference, sample):
        flags.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return 1.0

    monkeypatch.setattr(registry.load("metrics", "psnr"), "score", score)
    with products("tf32"):
        made = measure(RUN, "psnr", root=pairs).provenance
    assert set(flags) == {(False, False)}
    assert (made["tf32_matmul"], made["tf32_cudnn"]) == (False, False)


def test_the_result_is_on_disk(pairs):
    result = measure(RUN, "ssim", root=pairs)
    assert results.read_result(pairs, RUN.key, "ssim") == result


def test_every_sample_weighs_the_same(tmp_path, scored):
    # the official script weighs batches of 16 alike, however short the last one is
    levels = [20, 30] * 8 + [200, 100]
    run = replace(RUN, num_samples=18)
    fill(tmp_path, run.reference, [0] * 18)
    fill(tmp_path, run, levels)
    value = measure(run, "psnr", root=tmp_path).value
    assert value == pytest.approx((16 * 25 + 300) / 18)
    assert value != pytest.approx((25 + 150) / 2, rel=0.1)


def test_the_interval_is_that_of_the_mean(tmp_path, scored):
    levels = np.random.default_rng(3).integers(0, 256, 200)
    run = replace(RUN, num_samples=200)
    fill(tmp_path, run.reference, [0] * 200)
    fill(tmp_path, run, levels)
    result = measure(run, "psnr", root=tmp_path)
    low, high = result.interval
    standard_error = levels.std(ddof=1) / np.sqrt(200)
    assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    assert (low + high) / 2 == pytest.approx(levels.mean(), abs=0.2 * standard_error)
    (tmp_path / "scores" / run.key / "psnr.json").unlink()
    assert measure(run, "psnr", root=tmp_path).interval == (low, high)


def test_equal_scores_leave_no_doubt(tmp_path, scored):
    fill(tmp_path, RUN.reference, [0] * 3)
    fill(tmp_path, RUN, [7] * 3)
    result = measure(RUN, "psnr", root=tmp_path)
    assert (result.value, result.spread, result.interval) == (7, 0, (7, 7))


def test_one_sample_has_no_interval(pairs):
    result = measure(replace(RUN, num_samples=1), "psnr", root=pairs)
    assert result.value == pytest.approx(decibels(10))
    assert (result.n, result.spread, result.interval) == (1, None, None)


def test_samples_beyond_those_asked_for_do_not_count(pairs, scored):
    assert measure(replace(RUN, num_samples=2), "psnr", root=pairs).value == 15
    assert scored == [10, 20]


def test_the_reference_is_not_compared_with_itself(tmp_path):
    result = measure(RUN.reference, "psnr", root=tmp_path)  # and needs no samples
    assert (result.value, result.status) == (None, "reference")
    assert not (tmp_path / "scores").exists()


def test_fewer_steps_are_compared_with_all_of_them(tmp_path):
    """And what a plain run of as many steps is known by stays as it is."""
    plain = replace(RUN.reference, steps="10")
    fewer = replace(plain, reference_steps="20")
    fill(tmp_path, RUN.reference, [0, 0, 0])
    fill(tmp_path, plain, [10, 20, 40])
    assert measure(plain, "psnr", root=tmp_path).status == "reference"
    result = measure(fewer, "psnr", root=tmp_path)
    assert result.value == pytest.approx(np.mean([decibels(error) for error in (10, 20, 40)]))
    assert (result.run, result.reference) == (plain.key, RUN.reference.key)
    assert measure(fewer, "psnr", root=tmp_path) == result  # its time of making included
    assert measure(plain, "psnr", root=tmp_path).status == "reference"
    assert results.read_result(tmp_path, plain.key, "psnr") is None
    assert results.read_score(tmp_path, fewer, "psnr") == result


def test_a_second_time_nothing_is_scored(pairs, scored):
    first = measure(RUN, "psnr", root=pairs)
    assert measure(RUN, "psnr", root=pairs) == first
    assert scored == [10, 20, 40]


def redo_sample(root, monkeypatch):
    open_store(root, RUN).write(1, grey(50), meta={"class": 1})


def redo_reference(root, monkeypatch):
    open_store(root, RUN.reference).write(1, grey(50), meta={"class": 1})


def newer_metric(root, monkeypatch):
    monkeypatch.setattr(registry.load("metrics", "psnr"), "VERSION", 99)


@pytest.mark.parametrize("change", [redo_sample, redo_reference, newer_metric])
def test_a_change_is_scored_again(pairs, scored, monkeypatch, change):
    measure(RUN, "psnr", root=pairs)
    scored.clear()
    change(pairs, monkeypatch)
    measure(RUN, "psnr", root=pairs)
    assert scored == [10, 50 if change is redo_sample else 20, 40]


def test_a_result_of_another_protocol_or_network_does_not_count(pairs, monkeypatch):
    first = measure(RUN, "psnr", root=pairs)
    monkeypatch.setattr(registry.load("metrics", "psnr"), "PROTOCOL", "another")
    assert measure(RUN, "psnr", root=pairs).protocol == "another" != first.protocol
    monkeypatch.setattr(reference, "identities", lambda *_, given: {"network": "another"})
    assert measure(RUN, "psnr", root=pairs).assets == {"network": "another"}


def test_a_score_outlives_the_network_that_it_was_made_with(pairs, scored, monkeypatch):
    def gone(*_, given):
        raise MissingAssetError("no network")

    first = measure(RUN, "psnr", root=pairs)
    monkeypatch.setattr(reference, "identities", gone)
    assert measure(RUN, "psnr", root=pairs) == first
    redo_sample(pairs, monkeypatch)  # but not the samples
    assert measure(RUN, "psnr", root=pairs).status == "needs weights"


def test_another_number_of_samples_is_scored_again(pairs, scored):
    assert measure(replace(RUN, num_samples=2), "psnr", root=pairs).value == 15
    assert measure(RUN, "psnr", root=pairs).value == pytest.approx(70 / 3)
    assert scored == [10, 20, 10, 20, 40]


def test_swapped_samples_are_a_change(pairs, scored):
    measure(RUN, "psnr", root=pairs)
    scored.clear()
    fill(pairs, RUN, [20, 10, 40])
    measure(RUN, "psnr", root=pairs)
    assert scored == [20, 10, 40]


@pytest.mark.parametrize("which", ["run", "reference"])
def test_missing_samples(pairs, which):
    run = replace(RUN, num_samples=4)
    other = run.reference if which == "run" else run
    open_store(pairs, other).write(3, grey(0), meta={"class": 3})
    with pytest.raises(IncompleteError, match=r"missing .*\b3 \(1 of 4") as caught:
        measure(run, "psnr", root=pairs)
    assert ("uncached reference" in str(caught.value)) == (which == "reference")
    assert not (pairs / "scores").exists()


def test_a_damaged_sample_is_not_scored(pairs):
    store = open_store(pairs, RUN)
    measure(RUN, "psnr", root=pairs)
    file = next(path for path in store.path.iterdir() if path.name.startswith("000001"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IncompleteError, match=r"missing .*\b1 \(1 of 3.* damaged"):
        measure(RUN, "psnr", root=pairs)


def test_an_unknown_metric(tmp_path):
    with pytest.raises(UsageError, match="unknown metric 'pnsr'; did you mean 'psnr'"):
        measure(RUN, "pnsr", root=tmp_path)


def test_a_pair_that_does_not_fit_names_its_sample(pairs):
    open_store(pairs, RUN).write(2, grey(0, 16, 17), meta={"class": 2})
    with pytest.raises(UsageError, match=rf"{RUN.key} sample 2, psnr: .* cannot be compared"):
        measure(RUN, "psnr", root=pairs)


def test_samples_too_small_for_the_metric(tmp_path):
    run = replace(RUN, num_samples=1)
    for one in (run, run.reference):
        open_store(tmp_path, one).write(0, grey(0, 8, 8), meta={})
    with pytest.raises(UsageError, match=r"sample 0, ssim: .* is too small"):
        measure(run, "ssim", root=tmp_path)


def test_clips_come_back_from_the_store_unchanged(tmp_path):
    run, random = replace(RUN, num_samples=1), np.random.default_rng(0)
    reference, clip = random.integers(0, 256, (2, 4, 16, 16, 3), dtype=np.uint8)
    open_store(tmp_path, run.reference).write(0, reference, meta={})
    open_store(tmp_path, run).write(0, clip, meta={})
    squares = (reference.astype(float) - clip) ** 2
    expected = np.mean(20 * np.log10(255) - 10 * np.log10(squares.mean(axis=(1, 2, 3))))
    assert measure(run, "psnr", root=tmp_path).value == pytest.approx(expected, abs=1e-9)


def test_a_result_file_that_is_none(pairs):
    path = pairs / "scores" / RUN.key / "psnr.json"
    right = measure(RUN, "psnr", root=pairs).value
    path.write_text("{")
    with pytest.warns(SkipditWarning, match=r"psnr\.json: .*; it counts as absent"):
        assert measure(RUN, "psnr", root=pairs).value == right
    assert results.read_result(pairs, RUN.key, "psnr").value == right


@pytest.mark.parametrize("metric", ["psnr", "fid@digits"])
def test_progress_counts_the_samples(pairs, set_metric, metric):
    seen = []
    measure(RUN, metric, root=pairs, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.fixture
def set_metric(monkeypatch):
    """Stands in for FID@digits: the sum of level times (class + 1)."""
    module = registry.load("metrics", "fid@digits")

    def score_set(samples, metas):
        pairs = zip(samples, metas, strict=True)
        return float(sum(int(sample.flat[0]) * (meta["class"] + 1) for sample, meta in pairs))

    monkeypatch.setattr(module, "score_set", score_set)
    return module


def test_a_set_is_scored_with_its_classes_and_without_reference(tmp_path, set_metric):
    fill(tmp_path, RUN, [10, 20, 40, 80])
    result = measure(RUN, "fid@digits", root=tmp_path)
    assert (result.value, result.n) == (10 + 2 * 20 + 3 * 40, 3)
    assert (result.reference, result.spread, result.interval) == (None, None, None)
    assert results.read_result(tmp_path, RUN.key, "fid@digits") == result


def test_a_set_metric_scores_the_reference_too(tmp_path, set_metric):
    fill(tmp_path, RUN.reference, [1, 1, 1])
    assert measure(RUN.reference, "fid@digits", root=tmp_path).value == 6


def test_missing_weights_are_reported_and_not_kept(tmp_path, set_metric, monkeypatch):
    def score_set(samples, metas):
        raise MissingAssetError("no network", fix="skipdit download --metrics fid")

    fill(tmp_path, RUN, [1, 2, 3])
    with monkeypatch.context() as patch:
        patch.setattr(set_metric, "score_set", score_set)
        result = measure(RUN, "fid@digits", root=tmp_path)
    assert (result.value, result.status) == (None, "needs weights")
    assert result.note == "no network; skipdit download --metrics fid"
    assert not (tmp_path / "scores").exists()
    assert measure(RUN, "fid@digits", root=tmp_path).value == 1 + 4 + 9  # they have come


@pytest.fixture
def classifier(monkeypatch):
    """In place of the embedded one: takes an image for the class its level says."""

    class Level(nn.Module):
        def forward(self, images):
            level = ((images[:, 0, 0, 0] + 1) * 127.5).round()
            return -(level[:, None] - torch.arange(10)).abs()

    module = ModuleType("classifier")
    module.load_classifier = lambda data: Level()
    monkeypatch.setitem(sys.modules, "skipdit_cli.embedded.classifier", module)


def test_accuracy_through_the_store(tmp_path, classifier):
    fill(tmp_path, RUN, [0, 1, 9])  # of the classes 0, 1, 2
    assert measure(RUN, "accuracy@digits", root=tmp_path).value == pytest.approx(2 / 3)


def test_accuracy_of_prompts_through_the_store(tmp_path, classifier):
    store = open_store(tmp_path, RUN)
    for i, (level, word) in enumerate([(0, "zero"), (1, "nine"), (9, "nine")]):
        store.write(i, grey(level), meta={"prompt": f"a handwritten {word}"})
    assert measure(RUN, "accuracy@digits", root=tmp_path).value == pytest.approx(2 / 3)


def test_a_set_metric_that_refuses_names_the_run(tmp_path, classifier):
    run = replace(RUN, num_samples=1)
    open_store(tmp_path, run).write(0, grey(0), meta={})
    with pytest.raises(UsageError, match=f"{run.key}: accuracy@digits needs the digit that every"):
        measure(run, "accuracy@digits", root=tmp_path)


@pytest.mark.parametrize("bad", [None, np.nan, np.inf])
def test_one_feature_of_one_sample_that_is_no_number(tmp_path, monkeypatch, bad):
    def extract(images):
        logits = np.eye(len(images), 4)
        logits[1, 2] = 0 if bad is None else bad
        return {"logits": logits}

    toy = Extractor("toy", 1, (), lambda networks, device: extract)
    monkeypatch.setattr(registry.load("metrics", "inception-score"), "EXTRACTOR", toy)
    np.savez(tmp_path / "a.npz", arr_0=np.stack([grey(level) for level in range(3)]))
    given = taken(tmp_path / "a.npz", reference=None, prompts=None)
    if bad is None:
        assert measure_outside(given, "inception-score", root=tmp_path).value > 1
        return
    with pytest.raises(UsageError, match=r"a\.npz: the features \(logits\) of the samples are not"):
        measure_outside(given, "inception-score", root=tmp_path)


def test_a_folder_of_real_images_is_a_reference_of_a_run(tmp_path, monkeypatch):
    def extract(images):
        return {"pool": np.array([[image.mean()] for image in images])}

    toy = Extractor("toy", 1, (), lambda networks, device: extract)
    monkeypatch.setattr(registry.load("metrics", "fid"), "EXTRACTOR", toy)
    fill(tmp_path, RUN, [10, 20, 30])
    (tmp_path / "real").mkdir()
    for i, level in enumerate([15, 25, 35]):
        Image.fromarray(grey(level)).save(tmp_path / "real" / f"{i}.png")
    result = measure(RUN, "fid", root=tmp_path, how=How(reference=tmp_path / "real"))
    assert result.value == pytest.approx(25)
    assert list(result.assets) == ["real"]


def test_an_average_of_its_own(tmp_path, scored, monkeypatch):
    """VideoSys' script weighs batches of 16 alike, however short the last one is."""
    monkeypatch.setattr(
        registry.load("metrics", "psnr@videosys"), "score", registry.load("metrics", "psnr").score
    )
    run = replace(RUN, num_samples=18)
    fill(tmp_path, run.reference, [0] * 18)
    fill(tmp_path, run, [20, 30] * 8 + [200, 100])
    plain, quirk = (measure(run, name, root=tmp_path) for name in ("psnr", "psnr@videosys"))
    assert plain.value == pytest.approx((16 * 25 + 300) / 18)
    assert quirk.value == pytest.approx((25 + 150) / 2)
    assert plain.protocol != quirk.protocol
    assert plain.interval[0] < plain.value < plain.interval[1]
    assert (quirk.interval, quirk.spread) == (None, plain.spread)  # it depends on the order


def test_a_metric_without_network_is_computed_by_several_threads(tmp_path, scored):
    run = replace(RUN, num_samples=40)
    fill(tmp_path, run.reference, [0] * 40)
    fill(tmp_path, run, range(40))
    result = measure(run, "psnr", root=tmp_path, how=How(workers=3))
    assert result.value == pytest.approx(19.5)
    assert sorted(scored) == list(range(40))


@pytest.fixture
def vbench(monkeypatch):
    """Stands in for VBench; tells what it was asked."""
    module, asked = registry.load("metrics", "vbench"), []

    def score_prompts(samples, **given):
        asked.append((samples, given))
        if given["part"] == "scene":
            raise MissingAssetError("no detectron2")
        return 75.5

    monkeypatch.setattr(module, "score_prompts", score_prompts)
    return asked


def test_prompted_clips_are_scored_with_prompts_files_and_hashes(tmp_path, vbench, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    run = replace(RUN, card=catalog.card("captioned-digits"), num_samples=2)
    store = open_store(tmp_path, run)
    for i, word in enumerate(["one", "two"]):
        store.write(i, grey(0, 8, 16, 16), meta={"prompt": word})
    result = measure(run, "vbench.temporal_flickering", root=tmp_path, how=How(device="cuda"))
    assert (result.value, result.unit, result.metric) == (75.5, "%", "vbench.temporal_flickering")
    assert result.protocol == "VBench 0.1.5, custom input"
    ((samples, given),) = vbench
    assert samples == [("one", store.path / "000000.mkv"), ("two", store.path / "000001.mkv")]
    assert given["hashes"] == store.hashes(2)
    assert (given["part"], given["device"]) == ("temporal_flickering", "cuda")
    assert given["folder"].is_relative_to(store.path)
    assert measure(run, "vbench.temporal_flickering", root=tmp_path) == result
    assert len(vbench) == 1
    lacking = measure(run, "vbench.scene", root=tmp_path)
    assert (lacking.status, lacking.note) == ("needs weights", "no detectron2")


def test_an_mp4_would_have_moved_the_score_and_the_store_does_not(tmp_path):
    """What the store gives back scores as what was written; its preview, by decibels otherwise."""
    random = np.random.default_rng(0)
    run = replace(RUN, card=catalog.card("moving-digits"), num_samples=1)
    reference = random.integers(0, 256, (8, 128, 128, 3), dtype=np.uint8)
    noise = random.integers(-12, 13, reference.shape)
    sample = (reference.astype(int) + noise).clip(0, 255).astype(np.uint8)
    for one, clip in ((run.reference, reference), (run, sample)):
        open_store(tmp_path, one).write(0, clip, meta={})
    psnr = registry.load("metrics", "psnr")
    result = measure(run, "psnr", root=tmp_path)
    assert result.value == pytest.approx(psnr.score(reference, sample), abs=1e-12)
    previews = [
        codec.read_clip(open_store(tmp_path, one).path / "previews" / "000000.mp4")
        for one in (run.reference, run)
    ]
    assert previews[0].shape == reference.shape
    assert abs(psnr.score(*previews) - result.value) > 0.5
    assert psnr.score(reference, previews[0]) < 50  # and this is the very same clip
