"""Metrics that look through networks, against numbers that the field's own code printed.

`golden/metrics` holds features, logits or small inputs and what came of them in the ADM evaluator,
lpips 0.1.4 and in float64. `WRONG_*` and `OTHER_*` is what common mistakes give.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skipdit_cli.generate.decode import to_uint8
from skipdit_cli.metrics import (
    _averages,
    _clip,
    _frechet,
    _i3d,
    _manifold,
    clip_score,
    fvd,
    inception_score,
    lpips,
    sfid,
)

GOLDEN = Path(__file__).parent / "golden" / "metrics"


def read(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def arrays(name):
    stored = np.load(GOLDEN / f"{name}.npz")
    return {key: stored[key] for key in stored}


IS, PR, LPIPS, MISC = map(read, ("inception_score", "prec_recall", "lpips_formula_weights", "misc"))
VIDEOS = read("video_pairs")


class Known:
    """A reference whose features are at hand."""

    def __init__(self, **features):
        self.known = features

    def moments(self, feature, *, ddof):
        statistics = _frechet.Statistics(self.known[feature].shape[1])
        statistics.update(self.known[feature])
        return statistics.moments(ddof=ddof)

    def features(self):
        yield self.known


def chunks(size=64, **features):
    (n,) = {len(rows) for rows in features.values()}
    for i in range(0, n, size):
        yield {name: rows[i : i + size] for name, rows in features.items()}


@pytest.fixture(scope="module")
def logits():
    return {k: v.astype(np.float32) / 256 for k, v in arrays("inception_score").items()}


@pytest.mark.parametrize("split", [250, 500, 5000])
def test_inception_score_in_parts_of_one_size(logits, split):
    expected = IS["cases"][f"adm_split{split}"]
    parts = (logits["logits"][i : i + 64] for i in range(0, 1050, 64))
    ours = inception_score.of_logits(parts, split=split)
    assert ours == pytest.approx(expected["mean"], rel=IS["rel_tol"])
    assert ours == pytest.approx(expected["adm_real_code_fp32"], rel=IS["rel_tol_float32"])


def test_inception_score_without_the_bias(logits):
    products = logits["pool"].astype(np.float64) @ logits["fc_weight"].astype(np.float64).T
    for split in (100, 5000):
        ours = inception_score.of_logits([products], split=split)
        expected = IS["cases"][f"pool_nobias_split{split}"]["mean"]
        assert ours == pytest.approx(expected, rel=IS["rel_tol"])
    biased = inception_score.of_logits([products + logits["fc_bias"]], split=5000)
    wrong = IS["cases"]["WRONG_pool_with_bias_split5000"]["mean"]
    assert biased == pytest.approx(wrong, rel=IS["rel_tol"])


def test_inception_score_of_the_metric_is_that_of_5000(logits):
    ours = inception_score.score_set(chunks(logits=logits["logits"]))
    expected = IS["cases"]["adm_split5000"]["mean"]
    assert ours == pytest.approx(expected, rel=IS["rel_tol"])


@pytest.mark.parametrize("case", PR["cases"])
def test_precision_and_recall(case):
    features, chosen = arrays("features"), PR["cases"][case]
    real, ours = (features[chosen[side]].astype(np.float32) / 256 for side in ("ref", "gen"))
    found = _manifold.of_sets(chunks(pool=ours), Known(pool=real))
    np.testing.assert_allclose(found, chosen["exact"], rtol=0, atol=PR["tol_exact"])
    np.testing.assert_allclose(found, chosen["adm_fp16_real_code"], rtol=0, atol=PR["tol_vs_adm"])


def test_sfid_is_of_the_first_seven_channels():
    expected = read("sfid")
    stored = {side: maps.astype(np.float32) / 16 for side, maps in arrays("spatial").items()}

    def distance(pick):
        rows = {side: pick(maps) for side, maps in stored.items()}
        return sfid.score_set(chunks(spatial=rows["fake"]), Known(spatial=rows["real"]))

    ours = distance(lambda maps: maps[:, :7].reshape(len(maps), -1))
    cases = expected["cases"]
    assert ours == pytest.approx(cases["first7_ddof1"]["fd_eigh"], rel=expected["rel_tol"])
    assert ours == pytest.approx(cases["adm_real_code_fp32"], rel=1e-6)
    everything = distance(lambda maps: maps.reshape(len(maps), -1))
    assert everything == pytest.approx(cases["WRONG_all9_channels"], rel=expected["rel_tol"])


@pytest.fixture(scope="module")
def network():
    """LPIPS whose AlexNet has the weights that a formula gives."""
    network = lpips.build()
    with torch.no_grad():
        for n, (_, tensor) in enumerate(network.net.named_parameters()):
            i = torch.arange(tensor.numel(), dtype=torch.float64)
            if tensor.ndim == 4:
                values = torch.sin(0.7390851 * i + n) * (4 / tensor[0].numel()) ** 0.5
            else:
                values = torch.cos(0.3 * i + n) * 0.05
            tensor.copy_(values.view_as(tensor))
    return network.requires_grad_(False).eval()


@pytest.mark.parametrize("case", LPIPS["images"])
def test_lpips_of_images(network, case):
    images, expected = arrays("images"), LPIPS["images"][case]
    ours = lpips.score(images[f"{case}_ref"], images[f"{case}_dist"], network)
    assert ours == pytest.approx(expected["spatial_true_mean"], rel=LPIPS["rel_tol"])
    assert ours != pytest.approx(expected["WRONG_input_0_1"], rel=0.1)


def test_lpips_is_the_mean_of_the_map(network):
    images, expected = arrays("images"), LPIPS["images"]["noise"]
    ours = lpips.score(images["noise_ref"], images["noise_dist"], network)
    assert abs(ours / expected["spatial_false"] - 1) > 5e-4


def test_lpips_of_clips(network):
    videos, expected = arrays("videos"), LPIPS["videos_spatial_true"]
    pairs = list(zip(videos["ref"], videos["dist"], strict=True))
    frames = [[lpips.score(a, b, network) for a, b in zip(*pair, strict=True)] for pair in pairs]
    np.testing.assert_allclose(frames, expected["spatial_true_frames"], rtol=1e-4, atol=1e-7)
    clips = [lpips.score(*pair, network) for pair in pairs]
    assert np.mean(clips) == pytest.approx(expected["final"], rel=LPIPS["rel_tol"])


def test_videosys_gives_a_short_last_batch_full_weight():
    scores, quirk = (
        np.array(VIDEOS["batch_average_quirk"]["per_video"]),
        VIDEOS["batch_average_quirk"],
    )
    ours = _averages.mean_of_batches(scores)
    assert ours == pytest.approx(quirk["videosys_batch16_mean_of_means"], abs=1e-9)
    assert scores.mean() == pytest.approx(quirk["mean"], abs=1e-9)


@pytest.mark.parametrize("length", [8, pytest.param(10, marks=pytest.mark.slow)])
def test_fvd_of_a_toy_detector(length):
    """Resize, scale and layout as the TorchScript file has them; the covariance with ddof 0."""
    expected = MISC["toy_fvd"][f"T{length}"]

    class Toy(torch.nn.Module):
        def forward(self, x, rescale: bool, resize: bool, return_features: bool):
            assert (rescale, resize, return_features) == (True, True, True)
            assert (x.dtype, x.shape[1:]) == (torch.float32, (3, length, 8, 8))
            frames = x.double().transpose(1, 2).flatten(0, 1)
            frames = F.interpolate(frames, (224, 224), mode="bilinear", align_corners=False)
            clips = (2 * frames / 255 - 1).unflatten(0, (len(x), length)).transpose(1, 2)
            return F.adaptive_avg_pool3d(clips, (1, 2, 2)).flatten(1)

    extract = _i3d.extractor(Toy(), "cpu")
    sides = {}
    for side, clips in arrays("toy_videos").items():
        clips = clips[:, :length].transpose(0, 1, 3, 4, 2)  # [N,T,H,W,3]
        parts = [extract(list(clips[i : i + 7])) for i in range(0, len(clips), 7)]
        sides[side] = np.concatenate([part["logits"] for part in parts])
    mean = sides["real"].mean(axis=0, dtype=np.float64)[:3]
    np.testing.assert_allclose(mean, expected["feat_mean_real"], atol=1e-5)
    ours = fvd.score_set(chunks(logits=sides["fake"]), Known(logits=sides["real"]))
    tolerance = MISC["toy_fvd"]["rel_tol"]
    assert ours == pytest.approx(expected["fvd_ddof0_styleganv"], rel=tolerance)
    assert ours != pytest.approx(expected["fvd_ddof1_npcov"], rel=1e-3)


def test_clip_score_counts_a_negative_cosine_as_zero_sample_by_sample():
    stored = {side: rows.astype(np.float32) / 256 for side, rows in arrays("clip").items()}

    class Clip(torch.nn.Module):
        """Gives the embeddings that are asked for by number."""

        config = SimpleNamespace()

        def get_image_features(self, pixel_values):
            return torch.from_numpy(stored["image"])[pixel_values]

        def get_text_features(self, input_ids, attention_mask):
            return torch.from_numpy(stored["text"])[input_ids]

    def images(images, return_tensors):
        return {"pixel_values": torch.tensor([int(image[0, 0, 0]) for image in images])}

    def tokenizer(text, return_tensors, padding, truncation):
        assert truncation
        ids = torch.tensor([int(each) for each in text])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    network = _clip.Network(Clip(), images, tokenizer, "cpu")
    scores = [
        clip_score.score(np.full((8, 8, 3), i, np.uint8), {"prompt": str(i)}, network)
        for i in range(len(stored["image"]))
    ]
    expected = MISC["clip"]
    np.testing.assert_allclose(scores, np.maximum(expected["cos100"], 0), atol=1e-4)
    assert np.mean(scores) == pytest.approx(expected["mean_of_per_sample_max0"], rel=1e-5)
    assert abs(np.mean(scores) - expected["torchmetrics_max0_of_mean"]) > 10


def test_inception_sees_tensorflows_resize():
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as resize,
    )

    image, expected = arrays("images")["noise_ref"], MISC["inception_resize"]
    cases = {"up_48x64": image, "down_384": np.tile(image, (8, 6, 1))}
    for case, pixels in cases.items():
        x = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
        found = resize(x, size=(299, 299), align_corners=False)[0]
        for (row, column), values in zip(
            expected["positions_hw"], expected[case]["tf1_legacy"]["values"], strict=True
        ):
            np.testing.assert_allclose(found[:, row, column], values, atol=2e-4)
        assert float(found.double().mean()) == pytest.approx(
            expected[case]["tf1_legacy"]["mean"], abs=1e-4
        )


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("c2i", "dit"),
        ("c2v", "latte_c2v"),
        ("t2v", "latte_t2v_trunc"),
        ("t2i", "diffusers_round"),
    ],
)
def test_pixels_by_the_conventions_of_the_official_code(task, name):
    x = torch.from_numpy(arrays("uint8_in")["x"]).float()
    ours = to_uint8(x.reshape(1, 1, 1, -1), task=task)[0, 0, :, 0].numpy()
    np.testing.assert_array_equal(ours, arrays("uint8_out")[name].ravel())
    assert int(ours.sum()) == MISC["uint8"][name]["sum"]
