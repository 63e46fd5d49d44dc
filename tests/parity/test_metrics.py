"""PSNR, SSIM and the Frechet distance against numbers that the field's own code printed.

`golden/metrics` holds small inputs and what came out of VideoSys' common_metrics (pairs) and of
float64 and 40-digit arithmetic (Frechet). `OTHER_*` is what other protocols give for the same
input: a match with one of them means that the protocol was mixed up.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from skipdit_cli.metrics import _frechet, psnr, ssim

GOLDEN = Path(__file__).parent / "golden" / "metrics"


def read(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


IMAGES, VIDEOS, FRECHET = read("image_pairs"), read("video_pairs"), read("frechet")
NOT_SSIM = ("OTHER_ssim_skimage_default_7x7", "OTHER_ssim_luma601", "torchmetrics_ssim_default")


@pytest.fixture(scope="module")
def images():
    return np.load(GOLDEN / "images.npz")


@pytest.fixture(scope="module")
def videos():
    return np.load(GOLDEN / "videos.npz")


@pytest.fixture(scope="module")
def features():
    stored = np.load(GOLDEN / "features.npz")
    return {name: stored[name].astype(np.float32) / 256 for name in stored}


@pytest.mark.parametrize("case", IMAGES["cases"])
def test_image_pairs(images, case):
    expected = IMAGES["cases"][case]
    pair = images[f"{case}_ref"], images[f"{case}_dist"]
    assert psnr.score(*pair) == pytest.approx(
        expected["psnr_protocol"], rel=0, abs=IMAGES["abs_tol_psnr_db"]
    )
    assert ssim.score(*pair) == pytest.approx(
        expected["ssim_protocol"], rel=0, abs=IMAGES["abs_tol_ssim"]
    )


@pytest.mark.parametrize("case", ["noise", "blur", "min"])
def test_ssim_is_none_of_the_other_protocols(images, case):
    ours = ssim.score(images[f"{case}_ref"], images[f"{case}_dist"])
    for other in NOT_SSIM:
        assert abs(ours - IMAGES["cases"][case][other]) > 1e-3, other
    sample_covariance = IMAGES["cases"][case]["OTHER_ssim_skimage_gauss_samplecov"]
    assert abs(ours - sample_covariance) > 1e-6


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_video_frames_then_their_plain_mean(videos, metric):
    expected, name = VIDEOS["videos"], metric.NAME
    tolerance = VIDEOS["abs_tol_psnr_db" if metric is psnr else "abs_tol_ssim"]
    pairs = list(zip(videos["ref"], videos["dist"], strict=True))
    frames = [[metric.score(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs]
    clips = [metric.score(*pair) for pair in pairs]
    np.testing.assert_allclose(frames, expected[f"{name}_frames"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(clips, expected[f"{name}_per_video"], rtol=0, atol=tolerance)
    assert np.mean(clips) == pytest.approx(expected[f"{name}_final"], rel=0, abs=tolerance)


def test_psnr_is_none_of_the_other_averages(videos):
    expected = VIDEOS["videos"]
    clips = [psnr.score(a, b) for a, b in zip(videos["ref"], videos["dist"], strict=True)]
    assert np.min(np.abs(np.subtract(clips, expected["OTHER_psnr_of_mean_mse_per_video"]))) > 1
    assert abs(np.mean(clips) - expected["OTHER_psnr_of_global_mse"]) > 1
    assert abs(np.mean(clips) - expected["OTHER_psnr_identical_frames_dropped"]) > 1


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("case", FRECHET["cases"])
def test_frechet(features, case, ddof):
    ours, expected = frechet(features, case, ddof=ddof), FRECHET["cases"][case]
    if case == "e_identical":
        assert ours == pytest.approx(0, abs=FRECHET["abs_tol_identical"])
        return
    tolerance = FRECHET["rel_tol_rank_deficient" if "rankdef" in case else "rel_tol"]
    assert ours == pytest.approx(expected[f"ddof{ddof}"], rel=tolerance)
    if f"hp_ddof{ddof}" in expected:
        assert ours == pytest.approx(float(expected[f"hp_ddof{ddof}"]), rel=tolerance)
    assert ours != pytest.approx(expected[f"ddof{1 - ddof}"], rel=1e-5)


def test_a_large_mean_costs_no_digits(features):
    lost = FRECHET["cases"]["f_shift100"]["info_float32_accumulators"]
    ours = frechet(features, "f_shift100", ddof=1)
    assert ours == pytest.approx(frechet(features, "a_300", ddof=1), rel=1e-11)
    assert abs(ours - lost) > 1e-2


def frechet(features, case, *, ddof, batch=64):
    moments = []
    for side in ("real", "fake"):
        rows = features[FRECHET["cases"][case][side]] + FRECHET["cases"][case]["offset"]
        statistics = _frechet.Statistics(rows.shape[1])
        for start in range(0, len(rows), batch):
            statistics.update(rows[start : start + batch])
        moments.append(statistics.moments(ddof=ddof))
    return _frechet.distance(*moments)
