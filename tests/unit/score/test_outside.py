"""What other tools made, scored: how it pairs, what a metric needs, and what is kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skipdit_cli import registry
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.local import Local
from skipdit_cli.metrics import Extractor
from skipdit_cli.recipe.prompts import Prompts
from skipdit_cli.score import applicable, outside, scoring
from skipdit_cli.score.measure import How, measure_outside
from skipdit_cli.storage import codec

SIDE = 16


def grey(level, *, frames=0, side=SIDE):
    shape = (frames, SIDE, side, 3) if frames else (SIDE, side, 3)
    return np.full(shape, level, np.uint8)


def write(folder, samples):
    """Samples by file name: .png of images, .npy and .mkv of clips."""
    folder.mkdir(parents=True)
    for name, sample in samples.items():
        if name.endswith(".mkv"):
            codec.write_clip(folder / name, sample)
        elif name.endswith(".npy"):
            np.save(folder / name, sample)
        else:
            Image.fromarray(sample).save(folder / name)
    return folder


def of_levels(folder, levels, *, name="{}.png"):
    return write(folder, {name.format(i): grey(level) for i, level in enumerate(levels)})


def given(samples, reference=None, prompts=(), names=None):
    listed = Prompts(tuple(prompts), names=names) if prompts else None
    return outside.taken(Path(samples), reference=reference, prompts=listed)


def decibels(*errors):
    return np.mean([20 * np.log10(255 / error) for error in errors])


@pytest.fixture
def pairs(tmp_path):
    """Twelve samples, of which i is 1 + i away from its original."""
    originals = of_levels(tmp_path / "originals", [10 * i for i in range(12)])
    samples = of_levels(tmp_path / "samples", [10 * i + 1 + i for i in range(12)])
    return given(samples, originals)


def test_pairs_by_name(pairs, tmp_path):
    """In the order of numbers 10 and 11 are the last; by ASCII's they would follow 1."""
    result = measure_outside(pairs, "psnr", root=tmp_path)
    assert result.value == pytest.approx(decibels(*range(1, 13)))
    assert result.scores[10] == pytest.approx(decibels(11))
    assert (result.n, pairs.paired("psnr")) == (12, "name")
    low, high = result.interval
    assert low < result.value < high


def test_pairs_by_order_where_no_name_is_shared(tmp_path):
    originals = of_levels(tmp_path / "a", range(0, 120, 10), name="ref{}.png")
    samples = of_levels(tmp_path / "b", range(5, 125, 10))
    np.savez(tmp_path / "c.npz", arr_0=np.stack([grey(i) for i in range(5, 125, 10)]))
    for each in (samples, tmp_path / "c.npz"):
        asked = given(each, originals)
        assert asked.paired("psnr") == "order"
        assert measure_outside(asked, "psnr", root=tmp_path).value == pytest.approx(decibels(5))


@pytest.mark.parametrize(
    ("mine", "theirs", "problem"),
    [
        ("0 1 2", "0 1", "theirs: has no 2, as mine has; leave files of the same names in both"),
        ("0 1", "0 1 2 3", "mine: has no 2, as theirs has, and 1 more; "),
        ("0 1 2", "0 1 x", "theirs: has no 2, as mine has; "),
        ("0 1 2", "a b", "mine: has 3 samples, and theirs 2; give as many of both"),
    ],
)
def test_samples_that_do_not_pair(tmp_path, monkeypatch, mine, theirs, problem):
    """Also as many as there are, where only some names are shared: by order they would mix."""
    monkeypatch.chdir(tmp_path)
    for folder, names in (("mine", mine), ("theirs", theirs)):
        write(Path(folder), {f"{name}.png": grey(0) for name in names.split()})
    with pytest.raises(UsageError) as caught:
        measure_outside(given("mine", Path("theirs")), "psnr", root=tmp_path)
    assert str(caught.value).startswith(problem)


def test_images_do_not_pair_with_clips(tmp_path):
    images = of_levels(tmp_path / "a", [1])
    clips = write(tmp_path / "b", {"0.npy": grey(0, frames=2)})
    with pytest.raises(UsageError, match=r"a: holds images, and .*b clips; give both of one kind"):
        measure_outside(given(images, clips), "psnr", root=tmp_path)


@pytest.mark.parametrize(
    ("other", "name"), [(grey(0, side=20), "1.png"), (grey(0, frames=3), "1.npy")]
)
def test_a_pair_of_two_sizes_names_both_files(tmp_path, other, name):
    alike = grey(0, frames=2) if other.ndim == 4 else grey(0)
    first = name.replace("1", "0")
    originals = write(tmp_path / "a", {first: alike, name: other})
    samples = write(tmp_path / "b", {first: alike, name: alike})
    with pytest.raises(UsageError) as caught:
        measure_outside(given(samples, originals), "psnr", root=tmp_path)
    assert f"{originals / name} and {samples / name}, psnr: " in str(caught.value)


def test_one_broken_file_among_many_is_named_and_nothing_is_scored_of_the_others(pairs, tmp_path):
    (tmp_path / "samples" / "7.png").write_bytes(b"no picture")
    again = given(tmp_path / "samples", tmp_path / "originals")
    with pytest.raises(UsageError, match=r"samples/7\.png: cannot be read as an image .*; fetch"):
        measure_outside(again, "psnr", root=tmp_path)
    assert not (tmp_path / "outside" / "scores").exists()


@pytest.fixture
def counted(monkeypatch):
    """PSNR that counts how often it is asked."""
    module, calls = registry.load("metrics", "psnr"), []
    real = module.score
    monkeypatch.setattr(module, "score", lambda *pair: calls.append(1) or real(*pair))
    return calls


def test_a_score_is_kept_by_content_wherever_the_files_are(pairs, tmp_path, counted):
    first = measure_outside(pairs, "psnr", root=tmp_path)
    (tmp_path / "samples").rename(tmp_path / "moved")
    moved = given(tmp_path / "moved", tmp_path / "originals")
    assert measure_outside(moved, "psnr", root=tmp_path) == first
    assert len(counted) == 12
    Image.fromarray(grey(99)).save(tmp_path / "moved" / "3.png")
    changed = given(tmp_path / "moved", tmp_path / "originals")
    assert measure_outside(changed, "psnr", root=tmp_path).value != first.value
    assert len(counted) == 24


def test_what_was_scored_before_a_broken_file_counts_once_it_is_mended(
    tmp_path, counted, monkeypatch
):
    monkeypatch.setitem(scoring.CHUNK, 3, 2)
    originals = of_levels(tmp_path / "originals", range(6))
    samples = of_levels(tmp_path / "samples", range(10, 16))
    (samples / "4.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"4\.png: cannot be read"):
        measure_outside(given(samples, originals), "psnr", root=tmp_path)
    counted.clear()
    Image.fromarray(grey(14)).save(samples / "4.png")
    result = measure_outside(given(samples, originals), "psnr", root=tmp_path)
    assert (len(counted), result.scores) == (2, (decibels(10),) * 6)


def test_scores_beside_several_references_are_all_kept(pairs, tmp_path, counted):
    other = of_levels(tmp_path / "other", [10 * i + 100 for i in range(12)])
    first = measure_outside(pairs, "psnr", root=tmp_path)
    second = measure_outside(given(tmp_path / "samples", other), "psnr", root=tmp_path)
    assert (first.run, first.reference) != (second.run, second.reference)
    assert measure_outside(pairs, "psnr", root=tmp_path) == first
    assert len(counted) == 24


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "npz"])
def test_several_processes_score_the_same(tmp_path, kind):
    originals = of_levels(tmp_path / "a", range(70))  # more than one process takes at a time
    samples = of_levels(tmp_path / "b", range(100, 170))
    if kind == "npz":
        samples = tmp_path / "b.npz"
        np.savez(samples, arr_0=np.stack([grey(100 + i) for i in range(70)]))
    asked = given(samples, originals)
    alone = measure_outside(asked, "ssim", root=tmp_path / "one")
    together = measure_outside(asked, "ssim", root=tmp_path / "two", how=How(engine=Local(2)))
    assert together.scores == alone.scores


@pytest.fixture
def toy(monkeypatch):
    """The FVD and FID of a network that sees the mean level of a sample."""

    def extract(samples):
        stacked = np.stack(samples).reshape(len(samples), -1)
        return {name: stacked.mean(axis=1, keepdims=True) for name in ("pool", "logits")}

    for name in ("fid", "fvd"):
        module = registry.load("metrics", name)
        extractor = Extractor("toy", 1, (), lambda networks, device: extract)
        monkeypatch.setattr(module, "EXTRACTOR", extractor)


def test_fvd_of_clips_beside_clips(tmp_path, toy):
    """Both have the same spread, so that the distance is that of the means, squared."""
    real = write(tmp_path / "real", {f"{i}.npy": grey(10 * i, frames=16) for i in range(3)})
    made = write(tmp_path / "made", {f"x{i}.npy": grey(10 * i + 7, frames=16) for i in range(3)})
    result = measure_outside(given(made, real), "fvd", root=tmp_path)
    assert result.value == pytest.approx(49)
    assert list(result.assets) == ["real"]
    np.save(real / "2.npy", grey(50, frames=16))
    assert measure_outside(given(made, real), "fvd", root=tmp_path).value != result.value


def test_fid_of_images_beside_more_of_them(tmp_path, toy):
    """They need not pair."""
    real = of_levels(tmp_path / "real", [10, 20, 30] * 4)
    made = of_levels(tmp_path / "made", [15, 25, 35])
    spread = np.std([10, 20, 30]) * (np.sqrt(12 / 11) - np.sqrt(3 / 2))  # ddof 1 of both
    value = measure_outside(given(made, real), "fid", root=tmp_path).value
    assert value == pytest.approx(25 + spread**2)


@pytest.mark.parametrize("where", ["real", "made"])
def test_a_set_of_several_sizes_names_the_first_other_one(tmp_path, toy, where):
    alike = {f"{i}.png": grey(i) for i in range(3)}
    for folder in ("real", "made"):
        odd = {"1.png": grey(1, side=20)} if folder == where else {}
        write(tmp_path / folder, alike | odd)
    asked = given(tmp_path / "made", tmp_path / "real")
    with pytest.raises(UsageError, match=rf"{where}/1\.png: is 20x16, and .*{where}/0\.png 16x16"):
        measure_outside(asked, "fid", root=tmp_path)


def test_a_reference_of_another_kind(tmp_path, toy):
    images = of_levels(tmp_path / "images", [1, 2])
    clips = write(tmp_path / "clips", {f"{i}.npy": grey(i, frames=16) for i in range(2)})
    for made, real, problem in (
        (clips, images, r"images: has images, and fvd compares clips; give clips"),
        (images, clips, r"clips: has clips, and fid compares images; give images"),
    ):
        metric = "fvd" if made is clips else "fid"
        with pytest.raises(UsageError, match=problem):
            measure_outside(given(made, real), metric, root=tmp_path)


@pytest.mark.parametrize(
    ("metric", "kind", "problem"),
    [
        ("psnr", "images", "HERE: psnr compares each sample with its original; give the originals"),
        (
            "fvd",
            "images",
            "HERE: fvd cannot score images; take one of accuracy@digits, accuracy@fashion",
        ),
        ("fid", "clips", "HERE: fid cannot score clips; take one of accuracy@digits, dino-sim"),
        ("fvd", "clips", "HERE: fvd compares clips with real ones, and does not know with which; "),
        ("clip-score", "images", "HERE: clip-score needs to know what each sample was to show; "),
        ("vbench", "clips", "HERE: vbench needs to know what each sample was to show; give the "),
        ("motion@digits", "clips", "HERE: motion@digits needs to know what each sample was to "),
    ],
)
def test_what_a_metric_needs_is_told_before_anything_is_scored(tmp_path, metric, kind, problem):
    clips = {"0.npy": grey(0, frames=2)}
    asked = given(write(tmp_path / "a", clips if kind == "clips" else {"0.png": grey(0)}))
    with pytest.raises(UsageError) as caught:
        applicable.check_outside(metric, asked, place="HERE")
    assert str(caught.value).startswith(problem)


def test_vbench_reads_video_files(tmp_path):
    np.savez(tmp_path / "a.npz", arr_0=grey(0, frames=2)[None])
    arrays = write(tmp_path / "b", {"0.mkv": grey(0, frames=2), "1.npy": grey(0, frames=2)})
    for samples, prompts in ((tmp_path / "a.npz", ["one"]), (arrays, ["one", "two"])):
        with pytest.raises(UsageError, match=rf"{samples}: vbench reads video files; give"):
            applicable.check_outside("vbench", given(samples, prompts=prompts))
    videos = write(tmp_path / "c", {"0.mkv": grey(0, frames=2)})
    applicable.check_outside("vbench", given(videos, prompts=["one"]))


def test_prompts_are_handed_to_the_metrics_that_ask_for_them(tmp_path, monkeypatch):
    """Here accuracy@digits gives the number of letters; other prompts are other scores."""
    module = registry.load("metrics", "accuracy@digits")
    monkeypatch.setattr(
        module, "score_set", lambda samples, metas: float(sum(len(m["prompt"]) for m in metas))
    )
    folder = of_levels(tmp_path / "a", [1, 2])
    for prompts, letters in ((("one", "three"), 8), (("one", "two"), 6)):
        asked = given(folder, prompts=prompts)
        assert measure_outside(asked, "accuracy@digits", root=tmp_path).value == letters
    with pytest.raises(UsageError, match=r"--prompts: .*a has 2 samples, and these are 3 prompts"):
        given(folder, prompts=["one", "two", "three"])


def test_prompts_by_the_names_of_their_list_or_as_vbench_names_clips(tmp_path):
    folder = of_levels(tmp_path / "a", [1, 2], name="x{}.png")
    told = given(folder, prompts=["one", "two", "more"], names=("x1", "x0", "y"))
    assert told.prompts == ("two", "one")
    clips = ("a café-1.npy", "a café-0.npy", "well-lit room-0.npy")
    folder = write(tmp_path / "b", {name: grey(0, frames=2) for name in clips})
    told = given(folder, prompts=["well-lit room", "a café", "no clip of it"])
    assert told.prompts == ("a café", "a café", "well-lit room")
    problem = "--prompts: no prompt is that of well-lit room-0 in .*b, as others are by name"
    with pytest.raises(UsageError, match=problem):
        given(folder, prompts=["a café", "one", "two"])  # as many as there are clips


def test_files_and_their_hashes_are_handed_to_vbench(tmp_path, monkeypatch):
    seen = {}

    def score_prompts(samples, *, part, folder, device, progress, hashes):
        seen.update(samples=samples, part=part, hashes=hashes)
        return 50.0

    monkeypatch.setattr(registry.load("metrics", "vbench"), "score_prompts", score_prompts)
    folder = write(tmp_path / "a", {f"{i}.mkv": grey(i, frames=2) for i in range(2)})
    asked = given(folder, prompts=["one", "two"])
    assert measure_outside(asked, "vbench.temporal_flickering", root=tmp_path).value == 50
    assert seen["samples"] == [("one", folder / "0.mkv"), ("two", folder / "1.mkv")]
    assert (seen["part"], seen["hashes"]) == ("temporal_flickering", asked.samples.hashes(2))


def test_the_metrics_that_fit(tmp_path):
    images = of_levels(tmp_path / "images", [1, 2])
    clips = write(tmp_path / "clips", {"0.npy": grey(0, frames=16)})
    sets = ["cmmd", "fd-dinov2", "fid", "inception-score", "kid", "precision", "recall", "sfid"]
    assert applicable.to_outside(given(images)) == ["clip-iqa", *sets]
    prompted = applicable.to_outside(given(images, prompts="ab"))
    assert prompted == ["clip-iqa", "clip-score", *sets]
    assert applicable.to_outside_now(given(images, images)) == ["psnr", "ssim"]
    # none is here: what they lack is told
    assert applicable.to_outside_now(given(images)) == ["clip-iqa", *sets]
    both = applicable.to_outside(given(clips, clips), variants=True)
    assert {"psnr", "psnr@videosys", "fvd", "fvd@latte", "fid@frames"} <= set(both)
    assert "lpips" not in both  # of 16 pixels
    assert applicable.to_outside(given(clips)) == []


def test_an_empty_npz_of_statistics_pairs_with_nothing(tmp_path, toy):
    """It is what FID compares with, and no samples."""
    np.savez(tmp_path / "real.npz", mu=np.zeros(1), sigma=np.zeros((1, 1)))
    asked = given(of_levels(tmp_path / "a", [4, 4]), tmp_path / "real.npz")
    assert measure_outside(asked, "fid", root=tmp_path).value == pytest.approx(16)
    with pytest.raises(UsageError, match=r"real\.npz: is no npz with images in arr_0"):
        measure_outside(asked, "psnr", root=tmp_path)


def test_a_newer_way_of_reading_scores_again(pairs, tmp_path, counted, monkeypatch):
    measure_outside(pairs, "psnr", root=tmp_path)
    monkeypatch.setattr("skipdit_cli.score.sources.READING", 99)
    again = replace(pairs, samples=replace(pairs.samples))
    measure_outside(again, "psnr", root=tmp_path)
    assert len(counted) == 24
