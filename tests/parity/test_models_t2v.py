"""LatteT2V and Skip-Cache on it against outputs of the official code and of diffusers' class.

`golden/t2v` holds a small official model (OpenSparseLLMs/Skip-DiT 72609de, float32 on a CPU; every
weight re-drawn, so that nothing is zero), its inputs and outputs. Inputs of different steps are
independent, so a step's output depends on that step's input and on what was cached, and on nothing
else.
"""

import json
from functools import cache
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from skipdit_cli.checkpoints.official import from_official
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.loop import replay
from skipdit_cli.models.latte_t2v import LatteT2V
from skipdit_cli.spec import parse_cache

GOLDEN = Path(__file__).parent / "golden" / "t2v"
CASE = json.loads((GOLDEN / "case.json").read_text())
SEQUENCES = [name for name, run in CASE["runs"].items() if "step_indices" in run or "gap" in run]
CACHED = [name for name in SEQUENCES if "gap" in CASE["runs"][name]]
FORWARDS = [name for name in CASE["runs"] if name.startswith("b.")]
LAST = CASE["ctor"]["num_layers"] - 1


@cache
def tensors():
    return load_file(GOLDEN / "io.safetensors")


@cache
def model(skip):
    arguments = {**CASE["ctor"], "skip": skip}
    return from_official("latte_t2v", arguments, load_file(GOLDEN / "weights.safetensors"))


def model_of(run):
    return model(run["model"] != "vanilla")


def spec_of(run):
    start, stop = run.get("window", (700, 50))
    return f"skip-cache(n={run['gap']},window={start}-{stop})"


def play(name, spec=None):
    """Our outputs of a sequence, [steps, B, ...], and those of the official code."""
    io, run = tensors(), CASE["runs"][name]
    kind = name.split(".")[0] if name.startswith("edge") else "seq"
    x, t = io[f"{kind}.x"], io[f"{kind}.t"]
    given = {"encoder_hidden_states": io["seq.e"]}
    if kind == "edge":
        given = {
            "encoder_hidden_states": io["b.e"][:1],
            "encoder_attention_mask": io["b.mask"][:1],
        }
    if "gap" in run:  # every step matters for the next
        spec = spec or spec_of(run)
    else:
        x, t = x[run["step_indices"]], t[run["step_indices"]]
    cache = parse_cache(spec or "none").resolve(model_of(run).layout())
    return torch.stack(replay(model_of(run), cache, t, x, conditions=given)), io[name]


def close(ours, official):
    torch.testing.assert_close(ours, official, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_step_is_the_official_one(name):
    close(*play(name))


@pytest.mark.parametrize("name", FORWARDS)
def test_masks_single_frames_and_no_temporal_attention_are_the_official_ones(name):
    """And every sample of a batch may have its own timestep."""
    io, run, variant = tensors(), CASE["runs"][name], name.split(".")[-1]
    x, mask = io["b.x"][:, :, :1] if variant == "frame1" else io["b.x"], io["b.mask"]
    given = {
        "mask2d": {"encoder_attention_mask": mask},
        "mask3d": {"encoder_attention_mask": mask[:, None]},
        "notemp": {"enable_temporal_attentions": False},
    }.get(variant, {})
    assert 0 < mask.sum() < mask.numel()
    ours = model_of(run)(
        x, timestep=io["b.t"], encoder_hidden_states=io["b.e"], return_dict=False, **given
    )[0]
    close(ours, io[run.get("same_as", name)])


def test_a_padded_caption_is_the_caption_cut_to_its_tokens():
    """What the official pipeline does with one prompt, ours does with a batch of several."""
    io, tokens = tensors(), 4
    caption = io["b.e"][:1, :tokens]
    padded = F.pad(caption, (0, 0, 0, 3))
    mask = torch.tensor([[1] * tokens + [0] * 3])
    x, t = io["b.x"][:1], io["b.t"][:1]
    cut = model(True)(x, t, caption, return_dict=False)[0]
    close(model(True)(x, t, padded, mask, return_dict=False)[0], cut)


@pytest.mark.parametrize("name", CACHED)
def test_the_official_steps_are_full_and_the_others_run_the_outer_layers(name):
    run, network = CASE["runs"][name], model_of(CASE["runs"][name])
    seen: list[set[int]] = []
    handles = [network.register_forward_pre_hook(lambda *_: seen.append(set()))]
    for i, layer in enumerate(network.layers):
        hook = lambda *_, i=i: seen[-1].add(i)
        handles.append(layer.temporal.register_forward_pre_hook(hook))
    try:
        play(name)
    finally:
        for handle in handles:
            handle.remove()
    assert [len(layers) == LAST + 1 for layers in seen] == run["full"]
    assert all(layers == {0, LAST} for layers in seen if len(layers) <= LAST)
    timesteps = tensors()["edge.t" if name == "edge.out" else "seq.t"].tolist()
    session = Session(parse_cache(spec_of(run)).resolve(network.layout()), timesteps)
    assert [not sites for sites in session.reused] == run["full"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("cache_N2-700-50.out", "skip-cache(n=3,window=700-50)"),
        ("cache_N2-700-50.out", "skip-cache(n=2,window=800-50)"),
        ("cache_N3-800-50.out", "skip-cache(n=3,window=800-50,branch=2)"),
        ("cache_N3-800-50.out", "skip-cache(n=3,window=800-100)"),
        ("edge.out", "skip-cache(n=4,window=701-50)"),
        ("edge.out", "skip-cache(n=4,window=700-49)"),
    ],
)
def test_a_wrong_schedule_would_be_noticed(name, wrong):
    ours, official = play(name, wrong)
    assert (ours - official).abs().max() > 0.1  # thousands of times the tolerance


def test_the_vanilla_model_is_that_of_diffusers():
    """With one caption for all: diffusers takes masks in another form."""
    official = load_file(GOLDEN / "weights.safetensors")
    theirs = diffusers.LatteTransformer3DModel(**CASE["ctor"]).eval()
    state = {key: value for key, value in official.items() if not key.startswith("skip_")}
    lost = theirs.load_state_dict(
        {key: value for key, value in state.items() if "y_embedding" not in key}, strict=False
    )
    assert not lost.unexpected_keys
    io = tensors()
    given = {"timestep": io["b.t"], "encoder_hidden_states": io["b.e"], "return_dict": False}
    with torch.no_grad():
        close(model(False)(io["b.x"], **given)[0], theirs(io["b.x"], **given)[0])


def test_caption_keys_are_computed_once_per_clip():
    io, sizes = tensors(), []
    hook = lambda module, inputs: sizes.append(inputs[0].shape)
    network = model(True)
    handle = network.layers[0].spatial.attn2.to_k.register_forward_pre_hook(hook)
    network(io["b.x"], io["b.t"], io["b.e"])
    handle.remove()
    assert [shape[0] for shape in sizes] == [len(io["b.x"])]  # not times the number of frames


def test_saved_and_loaded_by_diffusers(tmp_path):
    network, io = model(True), tensors()
    network.save_pretrained(tmp_path)
    again = LatteT2V.from_pretrained(tmp_path)
    inputs = io["b.x"], io["b.t"], io["b.e"], io["b.mask"]
    assert torch.equal(again(*inputs).sample, network(*inputs).sample)
