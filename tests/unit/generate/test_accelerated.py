"""Pipelines with parts that wait beside their device, and with weights of 8 bits.

On a processor, where "beside" and "on" are one place: what is moved is moved by the same hooks.
"""

import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from skipdit_cli.checkpoints.card import RANDOM
from skipdit_cli.cli import _with_offload
from skipdit_cli.cli._pipelines import check_offload
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.generate import accelerated, loaded, pipelines
from skipdit_cli.generate.accelerated import OFFLOADS
from skipdit_cli.generate.options import Options
from skipdit_cli.precision import QUANTIZATIONS
from skipdit_cli.recipe import called, runs
from skipdit_cli.recipe.again import making
from skipdit_cli.score import timing
from skipdit_cli.score.labels import about
from tests.tiny_pipelines import make

CALL = {"height": 32, "width": 16, "max_sequence_length": 32}
real = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    return str(make("flux", tmp_path_factory.mktemp("pipelines") / "flux"))


def run_of(flux, cache="none", **settings):
    given = {"steps": "4", "prompts": ("a cat",), "call": CALL, "num_samples": 1, **settings}
    return runs.make_run(flux, cache, given)


def latents(run, pipe, times=1):
    for _ in range(times):
        given, _ = pipelines.called(run, range(1), ["a cat"], pipe=pipe, output_type="latent")
    return given


@pytest.mark.parametrize("offload", accelerated.OF_PIPELINES)
@pytest.mark.parametrize("cache", ["fora(n=2)", "pab(n=2)", "first-block"])
def test_what_waits_beside_the_device_changes_no_bit(flux, cache, offload):
    """Under caches, whose hooks stand where diffusers' own stand; those stay."""
    run = run_of(flux, cache)
    pipe = accelerated.placed(pipelines.load(run.card), "cpu", offload)
    blocks = pipe.transformer.transformer_blocks
    standing = [module for module in (pipe.transformer, *blocks) if "forward" in vars(module)]
    assert standing
    plain = latents(run, pipelines.load(run.card))
    assert torch.equal(latents(run, pipe, times=2), plain)
    assert all("forward" in vars(module) for module in standing)


@pytest.mark.parametrize("offload", ["", *accelerated.OF_PIPELINES])
def test_texts_are_encoded_once_wherever_the_encoder_waits(flux, offload):
    run = run_of(flux)
    pipe = accelerated.placed(pipelines.load(run.card), "cpu", offload)
    encoded = []
    for encoder in (pipe.text_encoder, pipe.text_encoder_2):
        words = next(each for each in encoder.modules() if isinstance(each, nn.Embedding))
        words.register_forward_hook(lambda *_: encoded.append(1))
    pipelines.encode_once(pipe)
    latents(run, pipe)
    first = len(encoded)
    latents(run, pipe, times=2)
    assert 0 < len(encoded) == first


def test_a_run_has_its_pipeline_where_it_was_asked_for(flux, monkeypatch):
    """Drawn or read beside the device, where all of it may be too large; each has its own."""
    seen = []
    monkeypatch.setattr(pipelines, "own_device", lambda device: device)
    monkeypatch.setattr(pipelines, "load", lambda card, **given: given)
    monkeypatch.setattr(accelerated, "placed", lambda *given: seen.append(given) or given)
    run = run_of(flux)
    for offload in ("", "model", "group", "group"):
        pipelines.of_run(run, device="cuda", offload=offload)
    loaded.release()
    assert [(given["device"], *where) for given, *where in seen] == [
        ("cuda", "cuda", ""),
        ("cpu", "cuda", "model"),
        ("cpu", "cuda", "group"),
    ]


def test_timings_with_parts_that_come_and_go_are_kept_apart(monkeypatch):
    monkeypatch.setattr(timing, "device_name", lambda device: device)
    places = [timing._hardware(Options(None, "cuda", offload=each)) for each in ("", *OFFLOADS)]
    assert places == ["cuda", "cuda", "cuda, offload model", "cuda, offload group"]


def on(device, offload, **run):
    given = SimpleNamespace(card=SimpleNamespace(pipeline=True), compile=False, **run)
    check_offload([given], offload, device=device)


def test_what_cannot_be_offloaded_is_refused(monkeypatch):
    on("cuda", "model")
    on("cuda", "group")
    on("cuda", "")
    with pytest.raises(UsageError, match="unknown way to offload 'modle'; did you mean 'model'"):
        on("cuda", "modle")
    with pytest.raises(UsageError, match="--offload: there is no GPU"):
        on("cpu", "group")
    compiled = SimpleNamespace(card=SimpleNamespace(pipeline=True), compile=True)
    with pytest.raises(UsageError, match="are not compiled; take model, or leave --compile out"):
        check_offload([compiled], "group", device="cuda")
    check_offload([compiled], "model", device="cuda")
    monkeypatch.setattr("skipdit_cli.cli._pipelines.find_spec", lambda name: None)
    with pytest.raises(MissingAssetError, match="accelerate is not installed; run `pip install"):
        on("cuda", "model")


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("--offload", "--offload=autoencoder"),
        ("--offload --steps 2", "--offload=autoencoder --steps 2"),
        ("--offload group --steps 2", "--offload group --steps 2"),
        ("--steps 2 --offload model", "--steps 2 --offload model"),
        ("--offload=group", "--offload=group"),
        ("", ""),
    ],
)
def test_the_value_of_offload_may_be_left_out(words, read):
    assert _with_offload(words.split()) == read.split()


@pytest.fixture
def torchao(monkeypatch):
    """A stand-in that writes down what it is asked for."""
    asked = []
    package, inside = ModuleType("torchao"), ModuleType("torchao.quantization")
    package.quantization = inside
    for config in QUANTIZATIONS.values():
        setattr(inside, config, type(config, (), {}))
    inside.quantize_ = lambda module, config: asked.append((module, type(config).__name__))
    monkeypatch.setitem(sys.modules, "torchao", package)
    monkeypatch.setitem(sys.modules, "torchao.quantization", inside)
    monkeypatch.setattr(called, "find_spec", lambda name: name)
    return asked


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_of_weights_that_are_drawn_the_transformer_is_quantized(torchao, flux, name):
    run = run_of(flux, weights=RANDOM, quantize=name)
    pipe = pipelines.load(run.card, quantize=run.quantize)
    assert torchao == [(pipe.transformer, QUANTIZATIONS[name])]


def test_a_run_of_quantized_weights_is_another(torchao, flux, monkeypatch):
    plain, run = run_of(flux), run_of(flux, "fora(n=2)", quantize="int8")
    assert "quantize" not in plain.to_dict()
    assert run.key != run_of(flux, "fora(n=2)").key != run_of(flux, quantize="float8").key
    assert run.reference.quantize == "int8"  # what a cache loses is told against the same weights
    assert runs.from_dict(run.to_dict()) == run
    assert "--quantize int8" in making(run)
    assert about([run]).endswith(", quantized to int8")
    before = run.key
    monkeypatch.setattr("skipdit_cli.run._installed", lambda package: f"{package} 9")
    assert run_of(flux, "fora(n=2)", quantize="int8").key != before  # another torchao


@real
@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_quantized_by_torchao(flux, name):
    """Read or drawn, the weights of linear layers of the transformer alone; near the plain ones."""
    run = run_of(flux, "fora(n=2)", quantize=name)
    pipe = pipelines.load(run.card, quantize=run.quantize)
    linear = [each for each in pipe.transformer.modules() if isinstance(each, nn.Linear)]
    assert {type(each.weight).__module__.split(".")[0] for each in linear} == {"torchao"}
    parameters = (*pipe.vae.parameters(), *pipe.text_encoder_2.parameters())
    assert not [each for each in parameters if type(each).__module__.startswith("torchao")]
    plain = latents(run, pipelines.load(run.card))
    off = (latents(run, pipe) - plain).abs().max() / plain.abs().max()
    assert 0 < off < 0.1
    drawn = run_of(flux, weights=RANDOM, quantize=name)
    module = pipelines.load(drawn.card, quantize=name).transformer
    assert type(module.x_embedder.weight) is type(pipe.transformer.x_embedder.weight)
