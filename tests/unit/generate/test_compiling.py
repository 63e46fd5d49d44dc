"""Compiled networks: the same samples, each part compiled once, and nothing left on the model."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch._dynamo.utils import counters

from skipdit_cli.errors import SkipditError
from skipdit_cli.generate import batch, compiling, pipelines, rng
from skipdit_cli.generate.loop import denoise
from skipdit_cli.profiling.latency import measure
from skipdit_cli.recipe import runs
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.sites import Site, site_modules
from tests.tiny_pipelines import make


@pytest.fixture
def traced(monkeypatch):
    """Traced and called as it is: what torch.compile does but for the machine code."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")


def sampled(run, *, compile, steps=8):
    """The latents of two samples."""
    model = batch.network(run)
    given = model.inputs(2)
    x, _ = given.pop("hidden_states"), given.pop("timestep")
    noise = [
        rng.batch_normal(x.shape[1:], seed=0, indices=range(2), step=step)
        for step in (rng.INITIAL, *range(steps))
    ]
    return denoise(
        model,
        noise[0],
        cache=run.cache,
        sampler=run.sampler,
        steps=str(steps),
        step_noise=lambda step: noise[step + 1],
        conditions=given,
        null=given,
        guidance=run.guidance,
        trained=run.card.sampling,
        compile=compile,
    )


def graphs():
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("cache", ["skip-cache(n=2)", "pab(n=2)"])
def test_each_part_is_compiled_once_and_the_hooks_of_a_cache_stand_around_it(traced, cache):
    """No bit changes where nothing is fused; six layers of two structures, with a skip or none."""
    torch._dynamo.reset()
    run, before = make_run("digits-skip", cache), graphs()
    plain = sampled(run, compile=False)
    assert graphs() == before
    assert torch.equal(sampled(run, compile=True), plain)
    parts = graphs() - before
    assert 1 <= parts <= 3
    assert not counters["graph_break"]
    assert torch.equal(sampled(run, compile=True), plain)
    assert graphs() - before == parts  # not once more, at any step or in any further loop
    for module in batch.network(run).modules():
        assert "forward" not in vars(module)
    assert torch.equal(sampled(run, compile=False), plain)


def test_a_layer_that_a_cache_acts_inside_of_is_compiled_site_by_site():
    model = batch.network(make_run("digits-skip"))
    sites = site_modules(model)
    layers = [module for site, module in sites.items() if site.kind == "layer"]
    assert compiling.parts(sites, []) == layers
    assert compiling.parts(sites, [Site("layer", 1)]) == layers
    within = compiling.parts(sites, [Site("attn.spatial", 1), Site("layer", 1), Site("layer", 2)])
    block = model.blocks[1]
    assert within == [layers[0], block.attn, block.mlp, *layers[2:]]


def test_a_forward_of_somebody_else_is_compiled_too_and_stays(traced):
    model, calls = batch.network(make_run("digits-skip")), []
    block = model.blocks[0]
    forward = block.forward

    def wrapped(*args, **kwargs):
        calls.append(len(calls))
        return forward(*args, **kwargs)

    block.forward = wrapped
    try:
        sampled(make_run("digits-skip", "skip-cache(n=2)"), compile=True, steps=2)
        assert block.forward is wrapped
        assert calls
    finally:
        del block.forward


def test_what_cannot_be_compiled_is_told_in_one_line(monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("No working C++ compiler found\nand much more")

    torch._dynamo.reset()
    monkeypatch.setattr(compiling, "BACKEND", backend)
    run = make_run("digits-skip")
    with pytest.raises(SkipditError) as caught:
        sampled(run, compile=True)
    said = str(caught.value)
    assert said.startswith("compile: the layers cannot be compiled here (")
    assert "No working C++ compiler found" in said
    assert said.endswith("); install a C++ compiler, as g++, or leave it out")
    assert "\n" not in said
    sampled(run, compile=False, steps=2)


def test_compiling_is_in_no_latency(traced):
    """All of it in the first warm-up: what follows has the same layers."""
    torch._dynamo.reset()
    run = make_run("digits-skip")

    def loop():
        sampled(run, compile=True, steps=2)

    first, second = measure({"a": loop, "b": loop}, reference="a", repeats=1).values()
    assert first.compiling > 0
    assert second.compiling == 0


def test_a_compiled_run_is_another_run():
    plain, compiled = (make_run("digits", settings={"compile": how}) for how in (False, "true"))
    assert plain.key == make_run("digits").key != compiled.key
    assert runs.from_dict(compiled.to_dict()) == compiled
    assert compiled.reference.compile


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "cache"),
    [
        ("digits-skip", "skip-cache(n=2)"),
        ("moving-digits-skip", "none"),
        ("captioned-digits-skip", "faster-cache(n=2)"),
        ("painted-digits", "pab(n=2)"),
    ],
)
def test_machine_code_gives_the_same_samples(model, cache):
    run = make_run(model, cache)
    plain, compiled = (sampled(run, compile=how) for how in (False, True))
    torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))
    before = graphs()
    assert torch.equal(sampled(run, compile=True), compiled)
    assert graphs() == before


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["none", "fora(n=2)", "pab(n=2)", "first-block"])
@pytest.mark.parametrize(("name", "more"), [("flux", {}), ("wan22", {"num_frames": 5})])
def test_machine_code_gives_the_same_samples_of_a_pipeline(tmp_path_factory, name, more, cache):
    """Under caches on whole blocks, inside of them, and of diffusers itself."""
    folder = tmp_path_factory.getbasetemp() / name
    if not folder.exists():
        make(name, folder)
    call = {"height": 32, "width": 48, "max_sequence_length": 32, **more}
    settings = {"steps": "4", "prompts": ("a cat",), "num_samples": 1, "call": call}

    def latents(compile):
        run = make_run(str(folder), cache, {**settings, "compile": compile})
        pipe = pipelines.of_run(run)
        return pipelines.called(run, [0], ["a cat"], pipe=pipe, output_type="latent")[0]

    before = graphs()
    plain = latents(False)
    assert graphs() == before
    torch.testing.assert_close(latents(True), plain, rtol=0, atol=1e-4 * float(plain.abs().max()))
    compiled = graphs()
    latents(True)
    assert graphs() == compiled > before or cache in ("pab(n=2)", "first-block")


def skipdit(*arguments, **variables):
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "skipdit_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )


@pytest.mark.slow
def test_profile_tells_how_long_was_compiled(tmp_path):
    done = skipdit(
        *("profile", "--model", "digits-skip", "--n", "2", "--steps", "10", "--batch-size", "1"),
        *("--compile", "--repeats", "1", "--json", "--results", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    seconds = [row["compile_s"]["ours"] for row in json.loads(done.stdout)]
    assert seconds[0] > seconds[1] == 0


@pytest.mark.slow
def test_no_compiler_is_one_line(tmp_path):
    done = skipdit(
        *("sample", "--model", "digits-skip", "--steps", "2", "--num-samples", "1", "--compile"),
        *("--results", str(tmp_path / "results")),
        CXX=str(tmp_path / "no-compiler"),
        TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"),
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the layers cannot be compiled here (" in done.stderr
