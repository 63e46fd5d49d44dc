"""Metrics that look through DINO, DINOv2 and CLIP of random weights, from samples to numbers."""

from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit_cli import registry
from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import _dino, _inception, clip_iqa, cmmd
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score.measure import measure, measure_outside
from skipdit_cli.score.outside import taken
from skipdit_cli.storage.store import open_store

_spec = spec_from_file_location("vision_networks", Path(__file__).with_name("networks.py"))
networks = module_from_spec(_spec)
_spec.loader.exec_module(networks)

RANDOM = np.random.default_rng(0)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


def noise(*shape):
    return RANDOM.integers(0, 256, (*shape, 3), dtype=np.uint8)


def fill(root, run, samples, metas=None):
    store = open_store(root, run)
    for i, sample in enumerate(samples):
        store.write(i, sample, meta=metas[i] if metas else {"class": i})


def folder_of(path, images):
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f"{i}.png")
    return path


def normalised(image, mean, std):
    """A PIL image -> [1,3,H,W] as networks take it."""
    pixels = (np.asarray(image, np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def test_dino_similarity_by_hand(monkeypatch, home, tmp_path):
    """The shorter side to 256, the middle 224, the first token: pair by pair, with an interval."""
    from transformers import ViTModel

    networks.install(monkeypatch, home, "dino")
    model = ViTModel.from_pretrained(networks.require("dino")).eval()

    def token(image):
        cut = Image.fromarray(image).resize((320, 256), Image.Resampling.BICUBIC)
        pixels = normalised(cut.crop((48, 16, 272, 240)), IMAGENET_MEAN, IMAGENET_STD)
        with torch.no_grad():
            return model(pixels).last_hidden_state[0, 0]

    run = make_run("digits", "fora(n=2)", {"num_samples": 3})
    pairs = [(noise(40, 50), noise(40, 50)) for _ in range(2)] + [(noise(40, 50),) * 2]
    fill(tmp_path, run.reference, [a for a, _ in pairs])
    fill(tmp_path, run, [b for _, b in pairs])
    result = measure(run, "dino-similarity", root=tmp_path)
    expected = [cosine(token(a), token(b)) for a, b in pairs]
    assert result.scores == pytest.approx(expected, abs=1e-5)
    assert result.scores[2] == pytest.approx(1, abs=1e-12)
    assert result.scores[0] < 0.9997
    assert result.value == pytest.approx(np.mean(expected), abs=1e-5)
    assert result.interval[0] < result.value < result.interval[1]
    assert set(result.assets) == {"dino"}


def test_dinov2_similarity_of_a_clip_is_the_mean_over_its_frames(monkeypatch, home):
    """17 frames, of which the last one is apart: not a mean of means of 16 and 1."""
    networks.install(monkeypatch, home, "dinov2")
    metric = registry.load("metrics", "dinov2-similarity")
    network = metric.load({"dinov2": networks.require("dinov2")}, "cpu")
    reference = noise(17, 20, 20)
    sample = np.concatenate([reference[:16] // 2, noise(1, 20, 20)])
    tokens = [_dino.features(list(each), network) for each in (reference, sample)]
    frames = [cosine(*map(torch.from_numpy, pair)) for pair in zip(*tokens, strict=True)]
    value = metric.score(reference, sample, network)
    assert value == pytest.approx(np.mean(frames), abs=1e-6)
    assert abs(value - (np.mean(frames[:16]) + frames[16]) / 2) > 1e-4
    with pytest.raises(UsageError, match="cannot be compared with"):
        metric.score(reference, sample[:16], network)


def test_what_is_seen_does_not_depend_on_the_other_images(monkeypatch, home):
    """More than a batch, of two sizes, and each alone."""
    networks.install(monkeypatch, home, "dinov2-large", "clip-336")
    images = [noise(20, 20 + 8 * (i % 2)) for i in range(18)]
    for name in ("fd-dinov2", "cmmd"):
        extractor = registry.load("metrics", name).EXTRACTOR
        (asset,) = extractor.assets
        extract = extractor.load({asset.name: networks.require(asset.name)}, "cpu")
        (whole,) = extract(images).values()
        alone = np.concatenate([*extract(images[:1]).values(), *extract(images[17:]).values()])
        assert whole.dtype == np.float32
        np.testing.assert_allclose(whole[[0, 17]], alone, rtol=0, atol=1e-5)
        assert np.abs(whole[0] - whole[17]).max() > 1e-3


def test_a_folder_of_half_a_model_is_refused(monkeypatch, tmp_path):
    """transformers would draw what is not there, and score by it."""
    from safetensors.torch import load_file, save_file

    networks.install(monkeypatch, tmp_path, "dinov2")
    folder = networks.require("dinov2")
    state = load_file(folder / "model.safetensors")
    del state["layernorm.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"dinov2: has no weights of layernorm\.weight, which a D"):
        registry.load("metrics", "dinov2-similarity").load({"dinov2": folder}, "cpu")


def test_cmmd_sees_the_middle_square(monkeypatch, home):
    """At 336 by PIL's bicubic filter, as CLIP normalises it; embeddings of length 1."""
    from transformers import CLIPModel

    networks.install(monkeypatch, home, "clip-336")
    folder, image = networks.require("clip-336"), noise(40, 60)
    (ours,) = cmmd.EXTRACTOR.load({"clip-336": folder}, "cpu")([image])["embedding"]
    middle = Image.fromarray(image[:, 10:50]).resize((336, 336), Image.Resampling.BICUBIC)
    with torch.no_grad():
        model = CLIPModel.from_pretrained(folder).eval()
        seen = model.get_image_features(normalised(middle, CLIP_MEAN, CLIP_STD)).pooler_output[0]
    np.testing.assert_allclose(ours, seen / seen.norm(), atol=1e-5)


def test_fd_dinov2_sees_the_whole_image(monkeypatch, home):
    """Both sides to 224, whatever shape it has, where the similarity sees the middle alone."""
    networks.install(monkeypatch, home, "dinov2-large")
    folder, image = networks.require("dinov2-large"), noise(40, 60)
    extract = registry.load("metrics", "fd-dinov2").EXTRACTOR.load({"dinov2-large": folder}, "cpu")
    rims = image.copy()
    rims[:, 56:] = 0
    seen = extract([image, rims])["token"]
    network = _dino.load_v2(folder, "dinov2-large", "cpu", _dino.WHOLE)
    np.testing.assert_allclose(seen, _dino.features([image, rims], network), atol=1e-6)
    assert np.abs(seen[0] - seen[1]).max() > 1e-3
    middle = _dino.features([image, rims], _dino.load_v2(folder, "dinov2-large", "cpu"))
    np.testing.assert_array_equal(middle[0], middle[1])


@pytest.mark.parametrize("name", ["cmmd", "fd-dinov2"])
def test_folders_of_images_are_compared(monkeypatch, home, tmp_path, name):
    """Of any sizes; with themselves they are at 0, and what is seen of them is kept."""
    networks.install(monkeypatch, home, "clip-336", "dinov2-large")
    images = [noise(16, 16), noise(24, 16), noise(16, 20)]
    made = folder_of(tmp_path / "made", images)
    real = folder_of(tmp_path / "real", [255 - image // 2 for image in images])
    value = measure_outside(taken(made, reference=real, prompts=None), name, root=tmp_path).value
    same = measure_outside(taken(made, reference=made, prompts=None), name, root=tmp_path).value
    assert same == pytest.approx(0, abs=1e-6)
    assert value > 1e-3
    kept = registry.load("metrics", name).EXTRACTOR.name
    assert len(list((tmp_path / "outside" / "features").glob(f"*/{kept}-1-*/*"))) == 1


@pytest.mark.parametrize(("name", "feature"), [("kid", "pool"), ("fid@clean", "clean")])
def test_real_images_of_an_npz_are_looked_at_whatever_stands_beside_them(
    monkeypatch, tmp_path, name, feature
):
    """The statistics in ADM's reference batch are of another resize, and no features."""
    networks.install(monkeypatch, tmp_path, "inception")
    metric = registry.load("metrics", name)

    def load(found, device):
        return lambda images: {feature: np.array([[image.mean()] for image in images])}

    monkeypatch.setattr(metric, "EXTRACTOR", replace(metric.EXTRACTOR, load=load))
    levels = [np.full((16, 16, 3), level, np.uint8) for level in (1, 3)]
    real = tmp_path / "real.npz"
    np.savez(real, arr_0=np.stack(levels), mu=np.full(1, 99.0), sigma=np.eye(1))
    made = folder_of(tmp_path / "made", levels)
    asked = taken(made, reference=real, prompts=None)
    # of 1 and 3 beside themselves: (3 + 1)^3 twice, and 2, 4, 4 and 10 to the third
    expected = {"kid": 128 - 2 * (8 + 64 + 64 + 1000) / 4, "fid@clean": 0}[name]
    value = measure_outside(asked, name, root=tmp_path).value
    assert value == pytest.approx(expected, abs=1e-9)


def test_clean_fid_leaves_the_resize_of_the_network_out(monkeypatch, home):
    """At 299x299 there is nothing to resize, and both see the same."""
    networks.install(monkeypatch, home, "inception")
    found, image = {"inception": networks.require("inception")}, noise(299, 299)
    (clean,) = _inception.CLEAN.load(found, "cpu")([image])["clean"]
    network = _inception.network(found["inception"], device="cpu")
    pool, _ = network(torch.from_numpy(image).permute(2, 0, 1)[None])
    np.testing.assert_allclose(clean, pool[0], rtol=1e-4, atol=1e-6 * float(pool.max()))


def test_clip_iqa_by_hand(monkeypatch, tmp_path):
    """exp(100 cos) of "Good photo." over that of both, image by image, whatever was asked for."""
    networks.install(monkeypatch, tmp_path, "clip")
    from safetensors.torch import load_file, save_file
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder = networks.require("clip")
    state = load_file(folder / "model.safetensors")
    state["text_model.final_layer_norm.bias"] += 20  # so that CLIP is not quite sure of either
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    model = CLIPModel.from_pretrained(folder).eval()
    images = CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    samples = [noise(64, 48) for _ in range(3)]
    run = make_run("digits", "none", {"num_samples": 3})
    fill(tmp_path, run, samples)
    result = measure(run, "clip-iqa", root=tmp_path)
    with torch.no_grad():
        out = model(
            **tokenizer(["Good photo.", "Bad photo."], return_tensors="pt", padding=True),
            pixel_values=images(images=samples, return_tensors="pt")["pixel_values"],
        )
    expected = (100 * out.image_embeds @ out.text_embeds.T).softmax(dim=1)[:, 0].tolist()
    assert result.scores == pytest.approx(expected, rel=1e-3)
    assert np.ptp(expected) > 0.01
    assert 0.01 < result.value < 0.99
    assert result.interval[0] < result.value < result.interval[1]
    network = clip_iqa.load({"clip": folder}, "cpu")
    with pytest.raises(UsageError, match="clip-iqa needs an image"):
        clip_iqa.score(noise(2, 16, 16), {}, network)
