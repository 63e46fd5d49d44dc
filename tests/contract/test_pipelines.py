"""The text pipelines whole, with every component of the released checkpoints in its own class and
layout, only small and of random weights; and diffusers' own pipelines, which must agree.
"""

import io
import json
import shutil
import weakref
from dataclasses import replace
from types import MappingProxyType

import diffusers
import numpy as np
import pytest
import sentencepiece
import torch
import transformers
from diffusers.schedulers import scheduling_ddpm
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, local, networks
from skipdit_cli.errors import MissingAssetError, SkipditError, UsageError
from skipdit_cli.generate import batch as generating
from skipdit_cli.generate import conditioning, decode, rng, text
from skipdit_cli.generate.hooks import attached
from skipdit_cli.generate.samples import generate
from skipdit_cli.models import hunyuan_dit, latte_t2v
from skipdit_cli.plan import plan
from skipdit_cli.recipe import runs
from skipdit_cli.samplers import timesteps
from skipdit_cli.storage.store import read_run

CORPUS = """a three moving to the left; a horse runs over a green field; an old man reads a book by
the sea; the quick brown fox jumps over the lazy dog; two cats sit on a red sofa"""
PROMPTS = (
    "A horse & a fox (quick) run over a half-green, half-brown, wind-swept field in jpg",
    *("two cats", "  the sea  " + "by the sea " * 90),
)
NEGATIVE = (  # of the official HunyuanDiT, where none is given: hydit/constants.py
    "错误的眼睛，糟糕的人脸，毁容，糟糕的艺术，变形，多余的肢体，模糊的颜色，模糊，重复，病态，残缺，"
)
pytestmark = pytest.mark.filterwarnings("ignore:.* are cut;:skipdit_cli.errors.SkipditWarning")
LATTE = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "num_layers": 4,
    "sample_size": 4,
    "video_length": 16,
    "caption_channels": 16,
}
HUNYUAN = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "hidden_size": 16,
    "num_layers": 6,
    "sample_size": 8,
    "cross_attention_dim": 24,
    "cross_attention_dim_t5": 16,
    "pooled_projection_dim": 16,
    "text_len": 77,
    "text_len_t5": 256,
}
NAMES = {"tiny-latte": "latte", "tiny-latte-skip": "latte-skip", "tiny-hunyuan": "hunyuan-dit"}
CACHE = "skip-cache(n=2,window=1000-20)"


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """A home with everything that `skipdit download` would fetch for the three checkpoints."""
    folder = tmp_path_factory.mktemp("home")
    cards = {
        name: replace(catalog.card(real), name=name, variant="tiny", size=1_000_000)
        for name, real in NAMES.items()
    }
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        torch.manual_seed(0)
        patch.setenv("SKIPDIT_HOME", str(folder))
        patch.setattr(catalog, "CARDS", MappingProxyType({**catalog.CARDS, **cards}))
        patch.setitem(latte_t2v.VARIANTS, "tiny", LATTE)
        patch.setitem(hunyuan_dit.VARIANTS, "tiny", HUNYUAN)
        latte, hunyuan = (
            folder / "components" / name
            for name in ("maxin-cn--Latte-1", "Tencent-Hunyuan--HunyuanDiT-v1.2-Diffusers")
        )
        sentences(latte / "tokenizer", extra_ids=100)
        t5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
        t5 |= {"feed_forward_proj": "gated-gelu", "vocab_size": 256}
        save(transformers.T5EncoderModel(transformers.T5Config(**t5)), latte / "text_encoder")
        save(temporal_decoder(), latte / "vae_temporal_decoder")
        size = words(hunyuan / "tokenizer")
        bert = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2}
        bert |= {"num_attention_heads": 2, "max_position_embeddings": 77, "vocab_size": size}
        save(transformers.BertModel(transformers.BertConfig(**bert)), hunyuan / "text_encoder")
        sentences(hunyuan / "tokenizer_2", extra_ids=0)
        mt5 = transformers.MT5EncoderModel(transformers.MT5Config(**t5))
        save(mt5, hunyuan / "text_encoder_2")
        save(autoencoder(), hunyuan / "vae")
        for card in cards.values():
            save(redrawn(networks.build(card, device="cpu")), folder / "weights" / card.name)
        yield folder


def save(model, folder):
    model.save_pretrained(folder)


def redrawn(model):
    """Random weights that let everything matter: gates, modulation, text and skips."""
    generator = torch.Generator().manual_seed(5)
    for parameter in model.requires_grad_(False).parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(noise / max(parameter[0].numel(), 25) ** 0.5)
    return model


def sentences(folder, *, extra_ids):
    """A T5 tokenizer as released: a SentencePiece model, and no tokenizer.json."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.replace("\n", " ").split(";") * 9),
        model_writer=model,
        vocab_size=80,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    special |= {"additional_special_tokens": [f"<extra_id_{i}>" for i in range(extra_ids)]}
    more = {"extra_ids": extra_ids, "sp_model_kwargs": {}, "tokenizer_class": "T5Tokenizer"}
    more |= {"legacy": True, "model_max_length": 512, "clean_up_tokenization_spaces": True}
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(json.dumps(special | more))


def words(folder):
    """A BERT tokenizer as released: vocab.txt, and no tokenizer.json. Returns how many words."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    found = special + sorted({word.strip(";") for word in CORPUS.split()})
    keys = {f"{name.strip('[]').lower()}_token": name for name in special}
    more = {"do_lower_case": True, "model_max_length": 77, "tokenize_chinese_chars": True}
    more |= {"strip_accents": None, "do_basic_tokenize": True, "tokenizer_class": "BertTokenizer"}
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in found))
    (folder / "special_tokens_map.json").write_text(json.dumps(keys))
    (folder / "tokenizer_config.json").write_text(json.dumps(keys | more))
    return len(found)


def autoencoder():
    model = diffusers.AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        layers_per_block=1,
        scaling_factor=0.13025,
    )
    return redrawn(model)


def temporal_decoder():
    model = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32,) * 4,  # its groups of 32 channels are fixed
        down_block_types=("DownEncoderBlock2D",) * 4,
        layers_per_block=1,
        scaling_factor=0.18215,
    )
    return redrawn(model)


@pytest.fixture
def planned():
    """A run of three prompts in one batch, in float32."""

    def make(name, cache="none", **settings):
        steps = "ddim10+1" if name == "tiny-hunyuan" else "ddim10"
        given = {"prompts": PROMPTS, "num_samples": 3, "batch_size": 3, "seed": 4, "steps": steps}
        return runs.make_run(name, cache, given | {"precision": "float32"} | settings)

    return make


@pytest.fixture
def denoised(monkeypatch):
    """The final latents of every batch."""
    found, to_pixels = [], decode.to_pixels

    def record(latents, *given, **others):
        found.append(latents)
        return to_pixels(latents, *given, **others)

    monkeypatch.setattr(decode, "to_pixels", record)
    return found


@pytest.fixture(scope="module")
def part(home):
    """part(name, key, cls): a component of a checkpoint as diffusers or transformers loads it."""

    def load(name, key, kind):
        return kind.from_pretrained(local.component(catalog.card(name), key))

    return load


def difference(ours, theirs):
    """The largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def assert_same_pixels(ours, theirs):
    apart = np.abs(ours.astype(int) - theirs.astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.01
    assert len(np.unique(ours)) > 50  # a picture, not a plane


@pytest.fixture(scope="module")
def latte_pipeline(part):
    """latte_pipeline(transformer): diffusers' pipeline with the components in the home."""

    def build(transformer):
        pipeline = diffusers.LattePipeline(
            tokenizer=part("tiny-latte", "tokenizer", transformers.T5Tokenizer),
            text_encoder=part("tiny-latte", "text_encoder", transformers.T5EncoderModel),
            vae=part("tiny-latte", "vae", diffusers.AutoencoderKLTemporalDecoder),
            transformer=transformer,
            scheduler=diffusers.DDIMScheduler(
                beta_start=1e-4,
                beta_end=0.02,
                beta_schedule="linear",
                clip_sample=False,
                set_alpha_to_one=True,
                steps_offset=0,
                timestep_spacing="leading",
            ),
        )
        pipeline.set_progress_bar_config(disable=True)

        def call(prompt, index, **others):
            noise = rng.batch_normal((4, 16, 4, 4), seed=4, indices=[index], step=rng.INITIAL)
            (frames,) = pipeline(
                prompt,
                latents=noise,
                num_inference_steps=10,
                guidance_scale=7.5,
                video_length=16,
                height=32,
                width=32,
                clean_caption=True,
                decode_chunk_size=14,
                return_dict=False,
                **others,
            )
            return frames

        return call

    return build


@pytest.fixture(scope="module")
def latte_of_diffusers(home):
    """diffusers' network with the weights of tiny-latte."""
    model = diffusers.LatteTransformer3DModel(
        **LATTE,
        in_channels=4,
        out_channels=8,
        patch_size=2,
        cross_attention_dim=16,
        attention_bias=True,
        activation_fn="gelu-approximate",
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    ours = load_file(local.locate(catalog.card("tiny-latte")))
    names = {key: key for key in model.state_dict()}
    back = latte_t2v.convert(names, {"num_layers": 4})  # our key -> theirs
    model.load_state_dict({back[key]: value for key, value in ours.items()}, strict=False)
    assert set(back) == set(ours)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["diffusers", "ours"])
def test_text_to_video_is_the_pipeline_of_diffusers(
    planned, denoised, latte_pipeline, latte_of_diffusers, tmp_path, whose
):
    wanted = planned("tiny-latte")
    store = generate(wanted, tmp_path)
    transformer = (
        latte_of_diffusers if whose == "diffusers" else networks.load(catalog.card("tiny-latte"))
    )
    pipeline = latte_pipeline(transformer)
    [latents] = denoised
    for i, prompt in enumerate(PROMPTS):
        theirs = pipeline(prompt, i, output_type="latent")
        assert difference(latents[i : i + 1], theirs) < 1e-5
        frames = pipeline(prompt, i, output_type="pt")[0]  # [F, 3, H, W] in [0, 1]
        pixels = (frames * 255).to(torch.uint8).permute(0, 2, 3, 1)  # official: truncated
        assert_same_pixels(store.read(i), pixels.numpy())
    other = pipeline(PROMPTS[1], 0, output_type="latent")
    assert difference(other, latents[:1]) > 0.01  # the prompt matters


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["none", CACHE])
def test_a_skip_model_and_its_cache_in_the_pipeline_of_diffusers(
    planned, denoised, latte_pipeline, tmp_path, cache
):
    wanted = planned("tiny-latte-skip", cache)
    generate(wanted, tmp_path)
    model = networks.load(catalog.card("tiny-latte-skip"))
    pipeline = latte_pipeline(model)
    visited = timesteps("ddim10")
    for i, prompt in enumerate(PROMPTS):
        with attached(model, wanted.cache, visited) as session:

            def step(pipe, i, t, given, session=session):
                if i + 1 < len(visited):
                    session.begin(i + 1)
                return given

            session.begin(0)
            theirs = pipeline(prompt, i, output_type="latent", callback_on_step_end=step)
        assert difference(denoised[0][i : i + 1], theirs) < 1e-5
    if cache == "none":
        cached = planned("tiny-latte-skip", CACHE)
        generate(cached, tmp_path)
        assert difference(denoised[1], denoised[0]) > 1e-3  # the cache is no bystander


@pytest.fixture(scope="module")
def hunyuan_pipeline(part):
    """hunyuan_pipeline(transformer): diffusers' pipeline with the components in the home."""

    def build(transformer):
        name = "tiny-hunyuan"
        pipeline = diffusers.HunyuanDiTPipeline(
            vae=part(name, "vae", diffusers.AutoencoderKL),
            tokenizer=part(name, "tokenizer", transformers.BertTokenizer),
            text_encoder=part(name, "text_encoder", transformers.BertModel),
            tokenizer_2=part(name, "tokenizer_2", transformers.T5Tokenizer),
            text_encoder_2=part(name, "text_encoder_2", transformers.MT5EncoderModel),
            transformer=transformer,
            scheduler=diffusers.DDPMScheduler(
                beta_start=0.00085,
                beta_end=0.02,
                beta_schedule="scaled_linear",
                prediction_type="v_prediction",
                steps_offset=1,
                timestep_spacing="leading",
                clip_sample=False,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)

        def call(prompt, index, **others):
            def noise(step):
                return rng.batch_normal((4, 8, 8), seed=4, indices=[index], step=step)

            steps = iter(range(10))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    scheduling_ddpm, "randn_tensor", lambda shape, **given: noise(next(steps))
                )
                images, _ = pipeline(
                    prompt,
                    latents=noise(rng.INITIAL),
                    num_inference_steps=10,
                    guidance_scale=6.0,
                    height=64,
                    width=64,
                    use_resolution_binning=False,
                    return_dict=False,
                    **others,
                )
            assert next(steps, None) is None  # every step has taken its noise
            return images

        return call

    return build


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["diffusers", "ours"])
def test_text_to_image_is_the_pipeline_of_diffusers(
    planned, denoised, hunyuan_pipeline, home, tmp_path, whose
):
    wanted = planned("tiny-hunyuan")
    store = generate(wanted, tmp_path)
    if whose == "diffusers":
        transformer = diffusers.HunyuanDiT2DModel.from_pretrained(home / "weights" / "tiny-hunyuan")
    else:
        transformer = networks.load(catalog.card("tiny-hunyuan"))
    pipeline = hunyuan_pipeline(transformer)
    [latents] = denoised
    for i, prompt in enumerate(PROMPTS):
        theirs = pipeline(prompt, i, output_type="latent", negative_prompt=NEGATIVE)
        assert difference(latents[i : i + 1], theirs) < 1e-5
        image = pipeline(prompt, i, output_type="pt", negative_prompt=NEGATIVE)[0]  # [3, H, W]
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0)
        assert_same_pixels(store.read(i), pixels.numpy())
    for other in ({"prompt": PROMPTS[1], "negative_prompt": NEGATIVE}, {"prompt": PROMPTS[0]}):
        theirs = pipeline(**other, index=0, output_type="latent")
        assert difference(theirs, latents[:1]) > 1e-4  # both texts matter


def test_tokenizers_as_released_read_as_their_libraries_do(home):
    """SentencePiece itself is the judge of T5; a tokenizer of transformers' own kind loads too."""
    folder = local.component(catalog.card("tiny-latte"), "tokenizer")
    assert sorted(path.name for path in folder.iterdir()) == [
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer_config.json",
    ]
    judge = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    for name, key in (("tiny-latte", "tokenizer"), ("tiny-hunyuan", "tokenizer_2")):
        tokenizer = text._load_tokenizer(local.component(catalog.card(name), key))
        for prompt in ("", "two cats", "a  Horse, unheard-of", "the sea " * 20):
            expected = [*judge.encode(prompt), judge.eos_id()]
            assert tokenizer(prompt)["input_ids"] == expected

    bert = text._load_tokenizer(local.component(catalog.card("tiny-hunyuan"), "tokenizer"))
    ids = bert("Two cats, unheard")["input_ids"]
    assert bert.convert_ids_to_tokens(ids) == ["[CLS]", "two", "cats", "[UNK]", "[UNK]", "[SEP]"]

    own = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "cats": 2}, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own = transformers.PreTrainedTokenizerFast(tokenizer_object=own, pad_token="<pad>")
    own.save_pretrained(home / "own")
    assert text._load_tokenizer(home / "own")("two cats")["input_ids"] == [1, 2]


def test_the_encoders_run_once_for_a_whole_sweep_and_never_while_denoising(
    planned, monkeypatch, tmp_path
):
    loaded, load, denoise, read, alive = [], text._load_model, generating.denoise, [], []

    def record(*given, **how):
        model = load(*given, **how)
        loaded.append(weakref.ref(model))
        model.register_forward_pre_hook(lambda module, args: read.append(type(module).__name__))
        return model

    def watch(*given, **others):
        alive.append([model() for model in loaded if model() is not None])
        return denoise(*given, **others)

    monkeypatch.setattr(text, "_load_model", record)
    monkeypatch.setattr(generating, "denoise", watch)
    for cache in ("none", CACHE, "skip-cache(n=3,window=1000-20)"):
        for restart in (2, 3):  # two samples, then one more
            wanted = planned("tiny-hunyuan", cache, num_samples=restart, batch_size=1)
            generate(replace(wanted, steps="ddim2+1"), tmp_path)
    assert alive == [[]] * 9
    # one batch for two prompts and the null prompt, one more for the third prompt
    assert read == ["BertModel", "MT5EncoderModel"] * 2


@pytest.mark.parametrize("key", ["vae", "tokenizer", "text_encoder", "tokenizer_2"])
def test_a_part_that_is_not_here_is_told_before_anything_is_computed(
    planned, home, monkeypatch, tmp_path, key
):
    folder = local.component(catalog.card("tiny-hunyuan"), key)
    before = planned("tiny-hunyuan")
    monkeypatch.setattr(text, "_load_model", lambda *_, **__: pytest.fail("loaded an encoder"))
    monkeypatch.setattr(generating, "network", lambda *_, **__: pytest.fail("the denoiser"))
    (folder / local.INCOMPLETE).touch()
    try:
        for wanted in (before, planned("tiny-hunyuan")):  # planned with and without the part
            with pytest.raises(MissingAssetError) as caught:
                generate(wanted, tmp_path)
            assert caught.value.exit_code == 4
            assert f"the {key} of tiny-hunyuan is not here; " in str(caught.value)
            assert "run `skipdit download tiny-hunyuan --accept-license` (about " in str(
                caught.value
            )
        [line] = plan.plan(wanted).missing
        assert line.startswith(f"{key}: skipdit download tiny-hunyuan --accept-license (about ")
    finally:
        (folder / local.INCOMPLETE).unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "a key less", "config"])
def test_a_damaged_autoencoder_is_told_in_one_line(
    home, monkeypatch, tmp_path, capfd, planned, damage
):
    """diffusers would draw what is missing at random and go on."""
    folder = shutil.copytree(local.component(catalog.card("tiny-hunyuan"), "vae"), tmp_path / "v")
    path = folder / local.WEIGHTS_FILE
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:9000])
    elif damage == "a key less":
        state = load_file(path)
        del state["decoder.conv_out.bias"]
        save_file(state, path, metadata={"format": "pt"})
    else:
        (folder / "config.json").write_text("[]")
    monkeypatch.setattr(local, "component", lambda card, key: folder)
    with pytest.raises(MissingAssetError) as caught:
        decode.to_pixels(torch.zeros(1, 4, 8, 8), catalog.card("tiny-hunyuan"))
    assert str(caught.value).startswith(f"{folder}: the autoencoder cannot be loaded (")
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_hunyuan_in_bfloat16_is_refused(planned):
    for name in ("hunyuan-dit", "tiny-hunyuan"):
        with pytest.raises(UsageError) as caught:
            planned(name, precision="bfloat16")
        assert str(caught.value) == (
            f"{name} gives black images in bfloat16; use float16 or float32 or tf32"
        )
    assert planned("tiny-latte", precision="bfloat16").precision == "bfloat16"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-latte-skip", "tiny-hunyuan"])
def test_half_precision_gives_nearly_the_same_samples(planned, tmp_path, name):
    """float16 is what the released checkpoints are run in, and their cards' default."""
    half = runs.make_run(name, CACHE, {"prompts": PROMPTS, "num_samples": 2, "batch_size": 2})
    assert half.precision == "float16"
    half = replace(half, steps=planned(name).steps)
    both = half, replace(half, precision="float32")
    store, whole = (generate(wanted, tmp_path) for wanted in both)
    assert store.path != whole.path
    for i in range(2):
        ours, theirs = store.read(i).astype(int), whole.read(i).astype(int)
        assert 0 < np.abs(ours - theirs).mean() < 0.2
        assert np.abs(ours - whole.read(1 - i)).mean() > 5


def changed(home, name, tmp_path, change):
    """A file of a checkpoint's weights with one thing changed."""
    state = load_file(home / "weights" / name / local.WEIGHTS_FILE)
    change(state)
    path = tmp_path / "changed.safetensors"
    save_file(state, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny-latte", "tiny-hunyuan"])
def test_an_overflow_in_half_precision_is_told_by_name(home, tmp_path, name):
    """100,000 is beyond the largest float16, 65,504."""
    path = changed(home, name, tmp_path, lambda state: state["proj_out.bias"].fill_(1e5))
    settings = {"prompts": PROMPTS, "num_samples": 1, "batch_size": 1, "steps": "ddim2"}
    wanted = runs.make_run(name, settings=settings | {"precision": "float16"}, weights_path=path)
    with pytest.raises(SkipditError) as caught:
        generate(wanted, tmp_path, weights_path=path)
    assert str(caught.value) == (
        f"{name} gave values that are not finite in float16 with none; "
        "take float32, or a milder cache"
    )
    assert caught.value.exit_code == 1
    whole = replace(wanted, precision="float32")
    assert generate(whole, tmp_path, weights_path=path).missing([0]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision",
    ["tf32", "float16", "bfloat16"],
)
def test_decoding_has_a_precision_of_its_own(planned, part, denoised, tmp_path, precision):
    """The official video scripts decode in float16, pixels and all."""
    whole = planned("tiny-latte", num_samples=1, batch_size=1, steps="ddim2")
    wanted = replace(whole, decode_precision=precision)
    expected, ours, again = (
        generate(run, tmp_path / str(i)).read(0) for i, run in enumerate((whole, wanted, whole))
    )
    assert wanted.key != whole.key
    assert np.array_equal(again, expected)  # which decoding in between did not round
    if precision == "tf32":  # which a CPU does not know
        assert np.array_equal(ours, expected)
        return
    vae = part("tiny-latte", "vae", diffusers.AutoencoderKLTemporalDecoder)
    latents = denoised[1].to(getattr(torch, precision))[0].transpose(0, 1) / 0.18215
    with torch.no_grad():
        frames = [
            vae.to(latents.dtype).decode(some, num_frames=len(some)).sample
            for some in latents.split(14)
        ]
    images = ((torch.cat(frames) / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8)
    assert np.array_equal(ours, images.permute(0, 2, 3, 1).numpy())
    assert 0 < np.abs(ours.astype(int) - expected).mean() < 2


@pytest.mark.few(1)
@pytest.mark.parametrize("others", [("float32", "tf32"), ("tf32", "float32"), ("float16", "tf32")])
def test_tf32_is_allowed_where_it_was_asked_for(planned, monkeypatch, tmp_path, others):
    """In a worker process too, which calls `make` and nothing else of this."""
    seen = set()

    def watch(kind, name):
        called = getattr(kind, name)

        def watched(*given, **more):
            flags = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
            seen.add((kind.__name__, *flags))
            return called(*given, **more)

        monkeypatch.setattr(kind, name, watched)

    watch(transformers.T5EncoderModel, "forward")
    watch(latte_t2v.MODEL, "forward")
    watch(diffusers.AutoencoderKLTemporalDecoder, "decode")
    precision, decode_precision = others
    wanted = planned("tiny-latte", steps="ddim2", precision=precision)
    wanted = replace(wanted, decode_precision=decode_precision)
    conditioning.prepare(wanted, tmp_path)
    generating.make(wanted, [0, 1, 2], root=tmp_path, how=generating.How(previews=False))
    one, other = precision == "tf32", decode_precision == "tf32"
    assert seen == {
        ("T5EncoderModel", one, one),
        (latte_t2v.MODEL.__name__, one, one),
        ("AutoencoderKLTemporalDecoder", other, other),
    }
    generate(wanted, tmp_path / "whole")
    made = read_run(tmp_path / "whole", wanted.key)["provenance"]
    assert (made["tf32_matmul"], made["tf32_cudnn"]) == (one, one)


@pytest.mark.slow
def test_an_overflow_of_the_autoencoder_is_told_by_name(planned, monkeypatch, tmp_path):
    wanted = planned("tiny-latte", num_samples=1, batch_size=1, steps="ddim2")
    vae = decode._load(local.component(catalog.card("tiny-latte"), "vae"), "float16", drawn=False)
    vae.decoder.conv_out.bias.fill_(torch.inf)
    monkeypatch.setattr(decode, "_load", lambda *_, **__: vae)
    with pytest.raises(SkipditError) as caught:
        generate(replace(wanted, decode_precision="float16"), tmp_path)
    assert str(caught.value) == (
        "the autoencoder of tiny-latte gave values that are not finite in float16; "
        "decode in float32"
    )


def test_black_samples_are_marked_and_kept(planned, monkeypatch, tmp_path):
    to_pixels = decode.to_pixels

    def darken(*given, **others):
        pixels = to_pixels(*given, **others)
        pixels[1] = 0
        pixels[2, ..., 1:] = 0
        pixels[2, ..., 0] = 1  # nearly
        return pixels

    monkeypatch.setattr(decode, "to_pixels", darken)
    store = generate(planned("tiny-hunyuan", steps="ddim2+1"), tmp_path)
    assert store.missing(range(3)) == []
    assert [store.meta(i).get("black") for i in range(3)] == [None, True, None]
    assert store.meta(1)["prompt"] == PROMPTS[1]
    assert store.black(3) == [1]
    assert store.black(1) == []
    assert not store.read(1).any()


@pytest.mark.slow
@pytest.mark.parametrize("offload", ["", "autoencoder"])
def test_offload_keeps_the_autoencoder_off_the_device(planned, monkeypatch, tmp_path, offload):
    wanted = planned("tiny-latte", num_samples=2, batch_size=1, steps="ddim2")
    expected = generate(wanted, tmp_path / "expected")
    vae = decode.autoencoder(local.component(catalog.card("tiny-latte"), "vae"), "float32")
    monkeypatch.setattr(decode, "autoencoder", lambda *_, **__: vae)
    events, denoise, decoded = [], generating.denoise, vae.decode

    def to(device):
        events.append(f"to {device}")
        return vae

    def watch(*given, **others):
        events.append("denoise")
        return denoise(*given, **others)

    def record(*given, **others):
        events.append("decode")
        return decoded(*given, **others)

    monkeypatch.setattr(vae, "to", to)
    monkeypatch.setattr(vae, "decode", record)
    monkeypatch.setattr(generating, "denoise", watch)
    store = generate(wanted, tmp_path / "watched", offload=offload)
    batch = ["denoise", "to cpu", "decode", "decode"]  # of 14 and of 2 frames
    assert events == 2 * (batch + ["to cpu"] * bool(offload))
    assert [np.array_equal(store.read(i), expected.read(i)) for i in range(2)] == [True, True]


def test_of_batch_is_on_the_device_it_was_asked_for(planned, tmp_path):
    wanted = planned("tiny-hunyuan")
    conditioning.prepare(wanted, tmp_path)
    for half in conditioning.of_batch(wanted, range(2), root=tmp_path, device="meta"):
        assert {value.device.type for value in half.values()} == {"meta"}
        assert {len(value) for value in half.values()} == {2}


def test_the_checkpoints_keep_the_sampling_and_components_of_the_released_ones():
    for name, real in NAMES.items():
        card, released = catalog.card(name), catalog.card(real)
        assert (card.sampling, card.components) == (released.sampling, released.components)
        assert registry.load("models", card.family).VARIANTS["tiny"] in (LATTE, HUNYUAN)
