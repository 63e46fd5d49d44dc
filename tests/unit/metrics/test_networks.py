"""Metrics through networks of the real architectures with random weights, from store to result."""

import os
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from skipdit_cli import registry
from skipdit_cli.assets import assets
from skipdit_cli.checkpoints import local
from skipdit_cli.errors import SkipditWarning, UsageError
from skipdit_cli.metrics import _inception, clip_score, lpips
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score import scoring
from skipdit_cli.score.measure import How, measure, measure_outside
from skipdit_cli.score.outside import taken
from skipdit_cli.storage.store import open_store

_spec = spec_from_file_location("networks", Path(__file__).with_name("networks.py"))
networks = module_from_spec(_spec)
sys.modules["networks"] = networks  # TorchScript looks the stand-in's source up
_spec.loader.exec_module(networks)

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def noise(*shape):
    return RANDOM.integers(0, 256, (*shape, 3), dtype=np.uint8)


def run_of(model, n, **settings):
    return make_run(model, "none", {"num_samples": n, **settings})


def fill(root, run, samples, metas=None):
    store = open_store(root, run)
    for i, sample in enumerate(samples):
        store.write(i, sample, meta=metas[i] if metas else {"class": i})
    return store


def batch(path, images, **more):
    np.savez(path, arr_0=np.stack(images), **more)
    return path


@pytest.mark.slow
def test_adm_metrics_of_an_npz(monkeypatch, home, tmp_path):
    """Everything is inside itself; FID and sFID against shifted statistics are the shift alone."""
    networks.install(monkeypatch, home, "inception")
    images = [noise(32, 32) for _ in range(4)]
    path = batch(tmp_path / "samples.npz", images)
    own = taken(path, reference=path, prompts=None)
    found = {
        name: measure_outside(own, name, root=tmp_path, how=How(workers=2))
        for name in ("precision", "recall", "inception-score")
    }
    assert (found["precision"].value, found["recall"].value) == (1, 1)
    assert 1 - 1e-9 <= found["inception-score"].value < 1.5
    assert {result.protocol for result in found.values()} == {
        "ADM evaluator",
        "ADM evaluator, exact distances",
    }
    assert set(found["recall"].assets) == {"inception", "samples.npz"}
    assert set(found["inception-score"].assets) == {"inception"}

    # what a run's samples give is what their npz gives
    run = run_of("digits", 4)
    fill(tmp_path, run, images)
    kept = next((tmp_path / "outside").rglob("*.safetensors"))
    from safetensors.numpy import load_file

    features = load_file(kept)
    assert {name: rows.shape for name, rows in features.items()} == {
        "pool": (4, 2048),
        "spatial": (4, 2023),
        "logits": (4, 1008),
    }
    pool = features["pool"].astype(np.float64)
    moved = tmp_path / "moved.npz"
    spatial = features["spatial"].astype(np.float64)
    np.savez(
        moved,
        mu=pool.mean(axis=0) + 0.5,
        sigma=np.cov(pool.T),
        mu_s=spatial.mean(axis=0) - 0.25,
        sigma_s=np.cov(spatial.T),
    )
    how = How(reference=moved)
    fid = measure_outside(taken(path, reference=moved, prompts=None), "fid", root=tmp_path)
    assert fid.value == pytest.approx(2048 * 0.25, rel=1e-6)
    assert set(fid.assets) == {"inception", "moved.npz"}
    assert measure(run, "sfid", root=tmp_path, how=how).value == pytest.approx(
        2023 * 0.0625, rel=1e-6
    )
    with pytest.raises(UsageError, match=r"moved\.npz: is no npz with images in arr_0"):
        measure(run, "precision", root=tmp_path, how=how)


def test_scoring_resumes_and_a_changed_sample_alone_is_seen_again(monkeypatch, home, tmp_path):
    networks.install(monkeypatch, home, "inception")
    monkeypatch.setitem(scoring.CHUNK, 3, 2)
    seen = []

    def load(assets, device):
        def extract(images):
            seen.extend(int(image[0, 0, 0]) for image in images)
            if 66 in seen:
                raise KeyboardInterrupt
            rows = np.array([[image.mean(), image[0, 0, 0]] for image in images])
            return {"pool": rows}

        return extract

    fid = registry.load("metrics", "fid")
    monkeypatch.setattr(fid, "EXTRACTOR", replace(fid.EXTRACTOR, load=load))
    reference = tmp_path / "real.npz"
    np.savez(reference, mu=np.zeros(2), sigma=np.zeros((2, 2)))
    run, how = run_of("digits", 5), How(reference=reference)

    def grey(level):
        return np.full((16, 16, 3), level, np.uint8)

    store = fill(tmp_path, run, [grey(level) for level in (10, 20, 30, 66, 50)])
    with pytest.raises(KeyboardInterrupt):
        measure(run, "fid", root=tmp_path, how=how)
    assert seen == [10, 20, 30, 66]
    seen.clear()
    store.write(3, grey(40), meta={"class": 3})
    first = measure(run, "fid", root=tmp_path, how=how)
    assert seen == [30, 40, 50]
    variance = np.var([10, 20, 30, 40, 50], ddof=1)
    assert first.value == pytest.approx(2 * (30**2 + variance))
    seen.clear()
    assert measure(run, "fid", root=tmp_path, how=how) == first
    store.write(0, grey(15), meta={"class": 0})
    assert measure(run, "fid", root=tmp_path, how=how).value != first.value
    assert seen == [15, 20]
    seen.clear()
    np.savez(reference, mu=np.ones(2), sigma=np.zeros((2, 2)))
    moved = measure(run, "fid", root=tmp_path, how=how)
    assert seen == []
    variance = np.var([15, 20, 30, 40, 50], ddof=1)  # around 31, which is 30 from the new mean
    assert moved.value == pytest.approx(2 * (30**2 + variance))


def test_another_network_sees_all_samples_and_real_images_again(monkeypatch, tmp_path):
    """A network is replaced by one that gives twice as much: four times the squared distance."""
    networks.install(monkeypatch, tmp_path, "alexnet")
    fid, asset = registry.load("metrics", "fid"), assets.declared()["alexnet"]

    def load(found, device):
        factor = found["alexnet"].stat().st_size  # all that this network is

        def extract(images):
            return {"pool": np.array([[factor * image.mean()] for image in images])}

        return extract

    def put(size):
        assets.target(asset).write_bytes(bytes(size))
        monkeypatch.setitem(vars(asset), "size", size)
        monkeypatch.setitem(vars(asset), "digest", local.sha256(assets.target(asset)))

    extractor = replace(fid.EXTRACTOR, load=load, assets=(asset,))
    monkeypatch.setattr(fid, "EXTRACTOR", extractor)
    levels, real = (10, 20, 30), (40, 50, 60)
    grey = [np.full((16, 16, 3), level, np.uint8) for level in (*levels, *real)]
    run, how = run_of("digits", 3), How(reference=batch(tmp_path / "real.npz", grey[3:]))
    fill(tmp_path, run, grey[:3])
    put(1)
    first = measure(run, "fid", root=tmp_path, how=how)
    assert first.value == pytest.approx(30**2)
    put(2)
    second = measure(run, "fid", root=tmp_path, how=how)
    assert second.value == pytest.approx(4 * 30**2)
    assert first.assets["alexnet"] != second.assets["alexnet"]


def test_frechet_statistics_keep_no_samples(monkeypatch, tmp_path):
    """Chunks are read one at a time: what is alive at once does not grow with their number."""
    import weakref

    fid, alive, most = registry.load("metrics", "fid"), [], 0

    def chunks():
        nonlocal most
        for i in range(20):
            rows = np.full((4, 3), float(i))
            alive.append(weakref.ref(rows))
            most = max(most, sum(each() is not None for each in alive))
            yield {"pool": rows}
            del rows

    class Real:
        def moments(self, feature, *, ddof):
            return np.zeros(3), np.zeros((3, 3))

    assert fid.score_set(chunks(), Real()) > 0
    assert most <= 3


def test_inception_takes_seven_channels_of_the_right_layer(monkeypatch, home):
    networks.install(monkeypatch, home, "inception")
    path = networks.require("inception")
    extract = _inception.IMAGES.load({"inception": path}, "cpu")
    images = [noise(40, 24), noise(40, 24)]
    found = extract(images)
    network, layers = _inception.network(path, device="cpu"), {}
    for name in ("Mixed_6d", "Mixed_6e"):
        block = getattr(network, name)
        block.branch1x1.register_forward_hook(
            lambda module, given, out, name=name: layers.setdefault(name, out)
        )
    pool, logits = network(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found["pool"], pool, rtol=1e-5)
    expected = layers["Mixed_6d"][:, :7].flatten(1)
    np.testing.assert_allclose(found["spatial"], expected, rtol=1e-5, atol=1e-7)
    assert not np.allclose(found["spatial"], layers["Mixed_6e"][:, :7].flatten(1))
    np.testing.assert_allclose(logits, pool @ network.fc.weight.T, rtol=1e-4, atol=1e-5)


def test_lpips_has_the_downloaded_trunk(monkeypatch, home, tmp_path):
    """By hand: AlexNet's five layers, unit length per pixel, the package's linear layers."""
    networks.install(monkeypatch, home, "alexnet")
    run = make_run("digits", "fora(n=2)", {"num_samples": 2})
    pairs = [(noise(40, 48), noise(40, 48)) for _ in range(2)]
    fill(tmp_path, run.reference, [a for a, _ in pairs])
    fill(tmp_path, run, [b for _, b in pairs])
    result = measure(run, "lpips", root=tmp_path)

    state = torch.load(networks.require("alexnet"), weights_only=True)
    network = lpips.build()
    linear = [getattr(network, f"lin{i}").model[-1].weight for i in range(5)]
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)

    def layers(image):
        x = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
        x = (x - shift) / scale
        for i, (stride, padding) in {
            0: (4, 2),
            3: (1, 2),
            6: (1, 1),
            8: (1, 1),
            10: (1, 1),
        }.items():
            if i in (3, 6):
                x = F.max_pool2d(x, 3, 2)
            weight, bias = state[f"features.{i}.weight"], state[f"features.{i}.bias"]
            x = F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))
            yield x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)

    expected = []
    for a, b in pairs:
        total = 0
        for weight, x, y in zip(linear, layers(a), layers(b), strict=True):
            way = F.conv2d((x - y).square(), weight)
            size = a.shape[:2]
            total += F.interpolate(way, size, mode="bilinear", align_corners=False).mean()
        expected.append(float(total.detach()))
    assert result.value == pytest.approx(np.mean(expected), rel=1e-4)
    assert (result.n, result.status) == (2, "ok")
    assert result.interval[0] < result.value < result.interval[1]


def test_lpips_needs_31_pixels(monkeypatch, home, tmp_path):
    networks.install(monkeypatch, home, "alexnet")
    network = lpips.load({"alexnet": networks.require("alexnet")}, "cpu")
    assert lpips.score(noise(31, 31), noise(31, 31), network) > 0
    with pytest.raises(UsageError, match="is too small"):
        lpips.score(noise(30, 31), noise(30, 31), network)
    run = make_run("digits", "fora(n=2)", {"num_samples": 1})
    for one in (run, run.reference):
        fill(tmp_path, one, [noise(16, 16)])
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))  # said before a download is asked for
    with pytest.raises(UsageError, match="lpips cannot score 16x16, only 31 px and more"):
        measure(run, "lpips", root=tmp_path)


def test_lpips_of_a_clip_is_the_mean_over_its_frames(monkeypatch, home):
    """17 frames, of which the last one is apart: not a mean of means of 16 and 1."""
    networks.install(monkeypatch, home, "alexnet")
    network = lpips.load({"alexnet": networks.require("alexnet")}, "cpu")
    reference = noise(17, 31, 31)
    sample = np.concatenate([reference[:16] // 2, 255 - reference[16:]])
    frames = [lpips.score(a, b, network) for a, b in zip(reference, sample, strict=True)]
    expected = np.mean(frames)
    assert abs(expected - (np.mean(frames[:16]) + frames[16]) / 2) > 0.01 * expected
    assert lpips.score(reference, sample, network) == pytest.approx(expected, rel=1e-5)


def test_clip_score_by_hand(monkeypatch, home, tmp_path):
    networks.install(monkeypatch, home, "clip")
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = networks.require("clip")
    model = CLIPModel.from_pretrained(folder).eval()
    images = CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    prompts = ["a dog on a red sofa", "a blue cat", "a red dog"]
    samples = [noise(64, 64) for _ in prompts]
    run = run_of("painted-digits", 3, prompts=tuple(prompts))
    fill(tmp_path, run, samples, [{"prompt": prompt} for prompt in prompts])
    result = measure(run, "clip-score", root=tmp_path)
    with torch.no_grad():
        out = model(
            **tokenizer(prompts, return_tensors="pt", padding=True),
            pixel_values=images(images=samples, return_tensors="pt")["pixel_values"],
        )
    cosines = (out.image_embeds * out.text_embeds).sum(dim=1)
    expected = (100 * cosines).clamp(min=0).mean()
    assert result.value == pytest.approx(float(expected), rel=1e-4)
    assert result.protocol == "100 cos, CLIP ViT-B/32"


def test_clip_in_the_format_of_a_torch_before_1_6(monkeypatch, tmp_path):
    """It is no zip file, and no damage: transformers reads it, and the score is the same."""
    from safetensors.torch import load_file

    networks.install(monkeypatch, tmp_path, "clip")
    folder, image = networks.require("clip"), noise(64, 64)
    prompt = {"prompt": "a red dog"}
    expected = clip_score.score(image, prompt, clip_score.load({"clip": folder}, "cpu"))
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    network = clip_score.load({"clip": networks.require("clip")}, "cpu")
    assert clip_score.score(image, prompt, network) == expected


class Hostile:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


LOADED = {  # every network of a metric whose file is data
    name: metric
    for name in registry.names("metrics")
    if (metric := registry.load("metrics", name)).EXTRACTOR or metric.ASSETS
    if not any(asset.runs_code for asset in assets.networks(metric))
}


@pytest.mark.few(7)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("name", LOADED)
def test_no_code_of_a_network_is_run(monkeypatch, tmp_path, name, zipped):
    metric = LOADED[name]
    (asset,) = assets.networks(metric)
    networks.install(monkeypatch, tmp_path, asset.name)
    path = file = networks.require(asset.name)
    if not asset.file:
        (path / "model.safetensors").unlink()
        file = path / "pytorch_model.bin"
    state = {"features.0.weight": torch.zeros(1), "code": Hostile(tmp_path / "ran")}
    torch.save(state, file, _use_new_zipfile_serialization=zipped)
    load = metric.EXTRACTOR.load if metric.EXTRACTOR else metric.load
    with pytest.raises(UsageError, match="UnpicklingError"):
        load({asset.name: path}, "cpu")
    assert not (tmp_path / "ran").exists()


def test_the_end_of_a_long_prompt_is_kept(monkeypatch, home):
    """Cut behind the tokenizer, the end token goes, and with it what the prompt says."""
    networks.install(monkeypatch, home, "clip")
    network = clip_score.load({"clip": networks.require("clip")}, "cpu")
    image = noise(32, 32)
    long = [" ".join([word] * 100) for word in ("dog", "cat")]
    with pytest.warns(SkipditWarning) as told:
        tokens = [network.process(text=[each], return_tensors="pt", padding=True) for each in long]
    scores = [float(network.model.get_text_features(**dict(each)).sum()) for each in tokens]
    assert scores[0] != scores[1]
    assert tokens[0]["input_ids"].shape == (1, 77)
    assert int(tokens[0]["input_ids"][0, -1]) == network.tokenizer.eos_token_id
    cut = len(network.tokenizer(long[1])["input_ids"]) - 77
    assert cut > 20
    assert str(told[1].message) == (
        "CLIP score prompt 'cat cat cat cat cat cat cat cat cat cat ... cat cat cat cat cat': "
        f"CLIP reads 77 tokens of it and {cut} are cut; write it shorter"
    )
    with pytest.warns(SkipditWarning, match="CLIP reads 77 tokens of it"):
        assert 0 <= clip_score.score(image, {"prompt": long[0]}, network) <= 100


@pytest.mark.slow
def test_fvd_and_fid_of_frames_against_real_clips(monkeypatch, home, tmp_path):
    """From a folder of videos to the numbers; a run of the real clips themselves is at 0."""
    from skipdit_cli.score import real_clips, real_videos
    from skipdit_cli.storage import codec

    networks.install(monkeypatch, tmp_path / "home", "i3d", "inception")
    monkeypatch.setattr(real_videos, "SIDE", 32)

    def pooled(weights, *, device):  # in place of Inception, which takes a second for a frame
        return lambda frames: (F.adaptive_avg_pool2d(frames.float(), 4).flatten(1),)

    monkeypatch.setattr(_inception, "network", pooled)
    folder = tmp_path / "videos"
    folder.mkdir()
    still = [np.repeat(noise(4, 4), 8, axis=0).repeat(8, axis=1) for _ in range(3)]
    for i, frame in enumerate(still):
        codec.write_clip(folder / f"{i}.mkv", np.stack([frame] * 16))
    made = real_clips.prepare("ffs", folder)
    assert made["released"].name == "released.npz"
    assert "fewer than two videos have 46 frames" in str(made["latte"])
    how = real_clips.DATASETS["ffs"].preparations["released"]
    clips = [real_videos.clip(folder / f"{i}.mkv", how, name=f"{i}.mkv")[0] for i in range(3)]
    run = run_of("ffs", 3)
    fill(tmp_path, run, clips)
    fvd = measure(run, "fvd", root=tmp_path)
    assert fvd.value == pytest.approx(0, abs=1e-6)
    assert fvd.n == 3
    assert measure(run, "fid@frames", root=tmp_path).value == pytest.approx(0, abs=1e-4)
    other = run_of("ffs", 3, seed=1)
    fill(tmp_path, other, [255 - clip for clip in clips])
    assert measure(other, "fvd", root=tmp_path).value > 1e-4
    third, whole = run_of("ffs", 3, seed=2), made["released"].read_bytes()
    fill(tmp_path, third, [255 - clip for clip in clips])
    made["released"].write_bytes(whole[:-1000] + bytes([whole[-1000] ^ 1]) + whole[-999:])
    with pytest.warns(SkipditWarning, match=r"released\.npz: was changed or damaged after it was"):
        assert measure(third, "fvd", root=tmp_path).status == "needs weights"
    assert real_clips.prepare("ffs", folder)["released"] == made["released"]
    again = measure(other, "fvd", root=tmp_path).value
    assert measure(third, "fvd", root=tmp_path).value == again
    lacking = measure(run, "fvd@latte", root=tmp_path)
    assert (lacking.status, lacking.value) == ("needs weights", None)
    assert "skipdit download --metrics ffs --accept-license" in lacking.note


def test_without_its_network_a_metric_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "empty"))
    run = run_of("digits", 2)
    fill(tmp_path, run, [noise(16, 16)] * 2)
    for metric in ("fid", "sfid", "precision", "recall", "inception-score"):
        result = measure(run, metric, root=tmp_path)
        assert (result.value, result.status) == (None, "needs weights")
        assert "run `skipdit download --metrics inception` (95.6 MB)" in result.note
    assert local.home() == tmp_path / "empty"
