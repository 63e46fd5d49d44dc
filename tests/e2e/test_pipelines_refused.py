"""Any diffusers pipeline: what cannot be done with one is told in a line."""

import json
import shutil
from functools import partialmethod
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.e2e.piped import CALL, FEW, PROMPTS
from tests.tiny_pipelines import make


def test_what_its_own_call_raises_is_told(skipdit, flux):
    """A text encoder that knows fewer words than the tokenizer."""
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(flux)
    pipe.text_encoder.resize_token_embeddings(2)
    pipe.save_pretrained("few-words")
    told = skipdit(f"sample --pipeline few-words {FEW}", *PROMPTS)
    told.failed(1, "few-words: its own call fails: IndexError", "--call")


def test_a_transformer_that_picks_by_what_its_layers_compute(skipdit, flux, monkeypatch):
    """As HiDream does, which sends each token to some of its experts."""
    from diffusers import FluxTransformer2DModel as Transformer

    def picking(self, own, hidden_states, **given):
        (self.x_embedder(hidden_states)[..., 0] > 0).nonzero()
        return own(self, hidden_states, **given)

    monkeypatch.setattr(Transformer, "forward", partialmethod(picking, Transformer.forward))
    told = skipdit(f"plan --pipeline {flux} --method fora --n 2 --steps 3 {CALL}")
    told.failed(1, "FluxTransformer2DModel: picks by values", "take another pipeline")


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ("--call heigth=32", ("heigth", "did you mean height?")),
        ("--call height", ("height", "as height=512")),
        ("--call num_images_per_prompt=2", ("num_images_per_prompt cannot be given here",)),
        ("--call height=tall", ("--call: height cannot be 'tall'", "give a number")),
        ("--call height=NaN", ("--call: height cannot be 'nan'", "give finite numbers")),
        (
            '--call height=32 --call joint_attention_kwargs={"a":NaN}',
            ("--call: joint_attention_kw",),
        ),
        ("--call height=32 --call height=48", ("--call: height is given twice",)),
        ("--call guidance_scale=2", ("guidance_scale", "--guidance")),
        ("--call height=32 --call max_sequence_length=999", ("FluxPipeline", "512")),
        ("--negative-prompt bad", ("changes nothing without guidance", "true_cfg_scale=4")),
        ("--sampler ddim", ("FlowMatchEulerDiscreteScheduler", "leave it out")),
        ("--steps ddim50", ("--steps: FluxPipeline", "ddim50", "give a number")),
        ("--model digits", ("--model and --pipeline", "give one of them")),
        ("--cache skip-cache(n=2)", ("skip-cache", "built without them")),
        ("--cache seacache", ("seacache", "ls caches --pipeline", f"{CALL}` tells which do")),
        ("--offload model", ("--offload", "there is no GPU", "leave it out")),
        ("--offload group --device cpu", ("--offload", "there is no GPU")),
        ("--offload", ("--offload: autoencoder is not for a pipeline", "give model or group")),
        ("--decode-precision float16", ("decode_precision", "parts have one precision")),
        ("--quantize int9", ("--quantize", "unknown quantize 'int9'", "'int8'")),
    ],
)
def test_mistakes(skipdit, flux, more, parts):
    base = "" if more.startswith("--steps") else "--steps 4 "
    call = "" if more.startswith("--call height") else CALL
    skipdit(f"sample --pipeline {flux} {base}{call} {more}", *PROMPTS).failed(2, *parts)


def test_without_prompts_there_are_no_samples(skipdit, flux):
    skipdit(f"sample --pipeline {flux} {FEW}").failed(4, "has no prompts", "give --prompt")
    assert not Path("results/samples").exists()


def test_a_negative_prompt_of_a_card_that_does_nothing_is_none(skipdit, flux):
    shutil.copytree(flux, "own")
    card = {"family": "pipeline", "variant": "FluxPipeline", "negative_prompt": "bad"}
    Path("own/card.json").write_text(json.dumps(card))
    line = f"sample --pipeline own {FEW} --num-samples 1 --json"
    for more, negative in (("", ""), ("--call true_cfg_scale=4", "bad")):
        done = skipdit(f"{line} {more}", *PROMPTS[:2]).ok()
        assert json.loads(done.out)["run"]["negative_prompt"] == negative


def test_a_card_beside_it_is_checked(skipdit, flux):
    shutil.copytree(flux, "own")
    for said, *parts in (
        ({"arguments": {"prompt": "a"}}, "arguments: prompt cannot be given here", "--prompt"),
        ({"arguments": {"heigth": 32}}, "arguments: FluxPipeline takes no heigth", "height?"),
        ({"arguments": {"height": "32"}}, "arguments: height cannot be '32'", "give a number"),
        ({"sampling": {"steps": "few"}}, "sampling: steps cannot be 'few'", 'as "28"'),
        ({"sampling": {"guidance": 0.5}}, "sampling: guidance cannot be 0.5", "or null for none"),
        ({"prompts": "none"}, "prompts of ./own: unknown prompt list 'none'"),
    ):
        card = {"family": "pipeline", "variant": "FluxPipeline", **said}
        Path("own/card.json").write_text(json.dumps(card))
        skipdit(f"sample --pipeline own {FEW} --num-samples 1").failed(2, *parts)


@pytest.mark.slow
def test_guidance_that_does_nothing_is_none(skipdit, tmp_path):
    """Qwen-Image guides where there is a negative prompt, and else has one key for every scale."""
    folder = make("qwen-image", tmp_path / "qwen-image")
    line = f"sample --pipeline {folder} --num-samples 1 {FEW}"
    told = skipdit(f"{line} --guidance 3", *PROMPTS[:2])
    told.failed(2, "--guidance 3: QwenImagePipeline has no guidance without a negative prompt")

    def key(*more):
        done = json.loads(skipdit(line, *PROMPTS[:2], *more, "--json").ok().out)
        return done["key"], done["run"]["guidance"]

    assert key() == key("--guidance", "none")
    assert key()[1] is None
    guided = key("--guidance", 3, "--negative-prompt", "bad")
    assert guided[1] == 3.0
    assert guided[0] != key("--guidance", 4, "--negative-prompt", "bad")[0]

    said = {"negative_prompt": "bad", "sampling": {"guidance": 3.0}}
    card = {"family": "pipeline", "variant": "QwenImagePipeline", **said}
    (folder / "card.json").write_text(json.dumps(card))
    assert key() == guided
    assert key("--guidance", "none")[1] is None


def test_a_folder_comes_before_a_model_of_its_name(skipdit, flux):
    shutil.copytree(flux, "digits-skip")
    shutil.copytree(flux, "flow-digits")
    keys = []
    for name in ("digits-skip", "./digits-skip", "flow-digits"):
        done = skipdit(f"sample --pipeline {name} --num-samples 1 {FEW} --json", *PROMPTS[:2]).ok()
        said = json.loads(done.out)
        assert said["run"]["model"] == f"./{Path(name).name}"
        keys.append(said["key"])
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.slow
def test_transformers_of_different_width(skipdit, tmp_path):
    """Costs are those of one, and so are what a cache keeps."""
    from diffusers import WanTransformer3DModel

    folder = make("wan22", tmp_path / "wan22")
    config = WanTransformer3DModel.load_config(folder / "transformer_2")
    wide = WanTransformer3DModel.from_config({**config, "ffn_dim": 2 * config["ffn_dim"]})
    wide.save_pretrained(folder / "transformer_2")
    call = "--call height=32 --call width=48 --call num_frames=5"
    told = skipdit(f"plan --pipeline {folder} --steps 4 {call} --method fora --n 2")
    told.failed(
        1,
        "the transformers of WanPipeline have different blocks: blocks.0.ffn.net.0.proj.weight is "
        "[32, 24] in transformer and [64, 24] in transformer_2; ",
    )


def test_what_is_for_pipelines_alone(skipdit):
    few = "--model digits --steps 2"
    skipdit(f"sample {few} --quantize int8").failed(2, "--quantize", "digits is none")
    for command in ("sample", "cache-sweep --method fora", "profile"):
        told = skipdit(f"{command} {few} --offload group")
        told.failed(2, "--offload: group is not for a model", "write --offload alone")
    skipdit(f"sample {few} --num-samples 1 --offload").ok()
    told = skipdit("profile --model captioned-digits --negative-prompt", "a one")
    told.failed(2, "--negative-prompt changes nothing where a model is given its texts as zeros")


@pytest.mark.skipif(find_spec("torchao") is not None, reason="torchao is installed")
def test_weights_are_not_quantized_without_torchao(skipdit, flux):
    for command in ("sample", "profile"):
        line = f"{command} --pipeline {flux} {FEW} --quantize int8"
        told = skipdit(line, *(PROMPTS if command == "sample" else ()))
        told.failed(4, "--quantize: torchao is not installed", "pip install 'skipdit[quantize]'")


@pytest.mark.parametrize("part", ["scheduler/scheduler_config.json", "tokenizer/tokenizer.json"])
def test_a_damaged_part_is_told_of(skipdit, flux, part):
    shutil.copytree(flux, "own", ignore=shutil.ignore_patterns("*.safetensors"))
    Path("own", part).write_text("garbage")
    # so many steps are in no other test: what this process counted of a folder `own` it remembers
    told = skipdit(f"plan --pipeline own --method fora --n 2 --steps 7 {CALL}")
    told.failed(1, f"own/{part.partition('/')[0]}: cannot be read as a", "download the pipeline")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("transformer", "joint_attention_dim"),
        ("text_encoder", "intermediate_size"),
        ("text_encoder_2", "d_ff"),
        ("vae", "latent_channels"),
    ],
)
def test_damaged_weights_are_told_of(skipdit, flux, part, name):
    """Whatever the library that reads them raises."""
    shutil.copytree(flux, "own")
    (weights,) = Path("own", part).glob("*.safetensors")
    whole = weights.read_bytes()
    for damaged in (whole + b"more", whole[:-9], b"garbage"):
        weights.write_bytes(damaged)
        told = skipdit(f"sample --pipeline own --num-samples 1 {FEW}", *PROMPTS)
        told.failed(1, f"own/{part}: its weights cannot be loaded: ", "download the pipeline")
        assert f"{weights.name} is cut off or not safetensors" in told.err
    config = json.loads(Path("own", part, "config.json").read_text())
    weights.write_bytes(whole)
    Path("own", part, "config.json").write_text(json.dumps({**config, name: 2 * config[name]}))
    told = skipdit(f"sample --pipeline own --num-samples 1 {FEW}", *PROMPTS)
    told.failed(1, f"own/{part}: its weights cannot be loaded: ", weights.name, "by config.json; ")
    Path("own", part, "config.json").write_text(json.dumps(config))
    weights.unlink()
    told = skipdit(f"sample --pipeline own --num-samples 1 {FEW}", *PROMPTS)
    told.failed(4, f"the weights of ./own are not here: of {part}", "save or download")


def test_folders_that_cannot_be_driven(skipdit, flux):
    Path("empty").mkdir()
    skipdit("sample --pipeline empty").failed(2, "empty", "model_index.json", "save_pretrained")
    skipdit("sample --pipeline nowhere/").failed(2, "nowhere", "OWNER/NAME")
    skipdit("sample --pipeline owner/name").failed(4, "owner/name", "skipdit download --pipeline")
    shutil.copytree(flux, "own", ignore=shutil.ignore_patterns("*.safetensors"))
    index = Path("own/model_index.json")
    said = json.loads(index.read_text())
    index.write_text(json.dumps(said | {"transformer": ["my_code", "MyTransformer"]}))
    skipdit("sample --pipeline own").failed(2, "my_code", "is not run")
    index.write_text(json.dumps(said | {"_class_name": "NoSuchPipeline"}))
    skipdit("sample --pipeline own").failed(2, "NoSuchPipeline", "diffusers")
    index.write_text("{")
    skipdit("sample --pipeline own").failed(2, "model_index.json", "JSON")
