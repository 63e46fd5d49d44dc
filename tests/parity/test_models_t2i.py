"""HunyuanDiT and Skip-Cache on it against outputs of the official code and of diffusers' class.

`golden/t2i` holds a small official model (OpenSparseLLMs/Skip-DiT 72609de, float32 on a CPU; every
weight re-drawn, so that nothing is zero), its inputs and outputs, and rows of the official tables
of rotary positions. Inputs of different steps are independent, so a step's output depends on that
step's input and on what was cached, and on nothing else.
"""

import json
from functools import cache
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.checkpoints.download import convert
from skipdit_cli.checkpoints.official import from_official
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.loop import replay
from skipdit_cli.models.hunyuan_dit import HunyuanDiT, rope
from skipdit_cli.sites import Site, site_modules
from skipdit_cli.spec import parse_cache

GOLDEN = Path(__file__).parent / "golden" / "t2i"
CASE = json.loads((GOLDEN / "case.json").read_text())
ARGUMENTS = {**CASE["ctor"], "args": CASE["args"]}
SEQUENCES = ["base.out", "cache2.out", "cache3.out", "edge.out"]
CACHED = [name for name in SEQUENCES if "N" in CASE["runs"][name]]
ROPES = load_file(GOLDEN / "rope_headsize16.safetensors")
OUTER = {0, 7}  # the layers that a cached step runs


@cache
def tensors():
    return load_file(GOLDEN / "io.safetensors")


@cache
def model():
    return from_official("hunyuan_dit", ARGUMENTS, load_file(GOLDEN / "weights.safetensors"))


def texts(*, batch=2):
    names = {
        "encoder_hidden_states": "text.e",
        "text_embedding_mask": "text.mask",
        "encoder_hidden_states_t5": "text.e_t5",
        "text_embedding_mask_t5": "text.mask_t5",
    }
    return {ours: tensors()[official][:batch] for ours, official in names.items()}


def play(name, spec=None):
    """Our outputs of a sequence, [steps, B, ...], and those of the official code."""
    io, run = tensors(), CASE["runs"][name]
    x, t = (io[key] for key in run["inputs"])
    if "N" in run:  # every step matters for the next
        spec = spec or f"skip-cache(n={run['N']})"
    else:
        x, t = x[run["step_indices"]], t[run["step_indices"]]
    cache = parse_cache(spec or "none").resolve(model().layout())
    outputs = replay(model(), cache, t, x, conditions=texts(batch=x.shape[1]))
    return torch.stack(outputs), io[name]


def close(ours, official):
    torch.testing.assert_close(ours, official, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_step_is_the_official_one(name):
    close(*play(name))


def test_a_wide_image_with_masked_texts_is_the_official_one():
    """And every sample of a batch may have its own timestep."""
    io, given = tensors(), texts()
    masks = [mask for key, mask in given.items() if "mask" in key]
    assert [0 < mask.float().mean() < 1 for mask in masks] == [True, True]  # of both encoders
    assert io["reso2.t"][0] != io["reso2.t"][1]
    with torch.no_grad():
        masked = model()(io["reso2.x"], io["reso2.t"], **given).sample
        given |= {key: torch.ones_like(mask) for key, mask in given.items() if "mask" in key}
        whole = model()(io["reso2.x"], io["reso2.t"], **given).sample
    close(masked, io["reso2.out"])
    close(whole, io["reso2.allmask_out"])
    assert (masked - whole).abs().max() > 0.1


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 0.02), (torch.bfloat16, 0.1)])
def test_half_precision_keeps_the_timestep(dtype, error):
    """981 is 980 in bfloat16, which would change the output by 0.4."""
    half = HunyuanDiT.from_config(model().config).eval()
    half.load_state_dict(model().state_dict())
    half = half.to(dtype)
    x, t = tensors()["seq.x"][0], tensors()["seq.t"][0].expand(2)
    assert t[0] == 981
    given = {key: value if "mask" in key else value.to(dtype) for key, value in texts().items()}
    with torch.no_grad():
        ours = half(x.to(dtype), t, **given).sample
    assert ours.dtype == dtype
    assert (ours.float() - tensors()["base.out"][0]).abs().max() < error


# Rotary positions


@pytest.mark.parametrize(("name", "height", "width"), [("rope", 4, 4), ("reso2", 4, 6)])
def test_rotary_positions_of_small_grids_are_the_official_ones(name, height, width):
    ours = torch.stack(rope(height, width, CASE["rope"]["head_size"]))
    official = torch.stack([tensors()[f"{name}.cos"], tensors()[f"{name}.sin"]])
    torch.testing.assert_close(ours, official, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", sorted({key.split(".")[0] for key in ROPES}))
def test_rotary_positions_of_real_sizes_are_the_official_ones(size):
    """`rows` are the rows of the table that the file keeps, from the first to the last."""
    height, width = (int(pixels) // 8 // 2 for pixels in size.split("x"))
    rows = ROPES[f"{size}.rows"]
    ours = torch.stack(rope(height, width, 16))
    assert ours.shape == (2, height * width, 16)
    assert rows[-1] == height * width - 1
    official = torch.stack([ROPES[f"{size}.cos"], ROPES[f"{size}.sin"]])
    torch.testing.assert_close(ours[:, rows], official, atol=1e-6, rtol=0)


# Skip-Cache


def layers_run(call):
    """Per call of the model, the layers whose attention really ran."""
    seen: list[set[int]] = []
    handles = [model().register_forward_pre_hook(lambda *_: seen.append(set()))]
    handles += [
        module.to_q.register_forward_pre_hook(lambda *_, layer=site.layer: seen[-1].add(layer))
        for site, module in site_modules(model()).items()
        if site.kind == "attn.spatial"
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return seen


@pytest.mark.parametrize("name", CACHED)
def test_the_official_steps_are_full_and_the_others_run_the_first_and_the_last_layer(name):
    run, every = CASE["runs"][name], set(range(CASE["ctor"]["depth"]))
    assert set(run.get("blocks_run_on_cached_step", OUTER)) == OUTER
    seen = layers_run(lambda: play(name))
    assert seen == [every if full else OUTER for full in run["full"]]

    timesteps = tensors()[run["inputs"][1]].tolist()
    session = Session(parse_cache(f"skip-cache(n={run['N']})").resolve(model().layout()), timesteps)
    assert [not sites for sites in session.reused] == run["full"]
    middle = {Site("layer", i) for i in every - OUTER}
    assert all(
        {s for s in sites if s.kind == "layer"} == middle for sites in session.reused if sites
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("cache3.out", "skip-cache(n=2)"),
        ("cache3.out", "skip-cache(n=3,branch=2)"),
        ("cache3.out", "skip-cache(n=3,window=800-50)"),
        ("edge.out", "skip-cache(n=4,window=701-50)"),
        ("edge.out", "skip-cache(n=4,window=700-51)"),
        ("edge.out", "none"),
    ],
)
def test_a_wrong_schedule_would_be_noticed(name, wrong):
    ours, official = play(name, wrong)
    assert (ours - official).abs().max() > 0.1  # thousands of times the tolerance


def test_the_layers_that_are_joined_are_the_official_ones():
    """The middle layers 19 and 20 of the published model neither give nor take."""
    layout = networks.build(catalog.card("hunyuan-dit")).layout()
    assert layout.skips == tuple(zip(range(21, 40), range(18, -1, -1), strict=True))
    assert model().layout().skips == ((5, 2), (6, 1), (7, 0))


# Files and arguments


@pytest.mark.parametrize("keys", ["official", "diffusers"])
def test_diffusers_loads_what_is_downloaded_and_computes_the_same(keys, tmp_path, monkeypatch):
    """From a file with either kind of keys, converted as `skipdit download` does it."""
    official = load_file(GOLDEN / "weights.safetensors")
    state = official if keys == "official" else model().state_dict()
    torch.save(state, tmp_path / "model.pt")
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    monkeypatch.setattr(networks, "build", lambda *_, **__: HunyuanDiT(**model().config))
    folder = convert(catalog.card("hunyuan-dit"), tmp_path / "model.pt").parent
    theirs = diffusers.HunyuanDiT2DModel.from_pretrained(folder)
    x, t = tensors()["seq.x"][0], tensors()["seq.t"][:1].expand(2)
    with torch.no_grad():
        ours = model()(x, t, **texts()).sample
        positions = rope(4, 4, 16)
        expected = theirs(x, t.float(), **texts(), image_rotary_emb=positions).sample
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def test_diffusers_loads_what_is_saved_and_computes_the_same(tmp_path):
    model().save_pretrained(tmp_path)
    theirs = diffusers.HunyuanDiT2DModel.from_pretrained(tmp_path)
    again = HunyuanDiT.from_pretrained(tmp_path)
    x, t = tensors()["reso2.x"], tensors()["reso2.t"]
    with torch.no_grad():
        ours = model()(x, t, **texts()).sample
        positions = rope(4, 6, 16)
        expected = theirs(x, t.float(), **texts(), image_rotary_emb=positions).sample
        assert torch.equal(again(x, t, **texts()).sample, ours)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"skip": False}, "no version without skip branches"),
        (
            {"args": {**CASE["args"], "use_style_cond": True}},
            "use_style_cond=True is another model",
        ),
        ({"args": {**CASE["args"], "norm": "rms"}}, "norm=rms is another model"),
        ({"heads": 2}, "no constructor argument heads"),
    ],
)
def test_official_arguments_of_another_model_are_refused(changed, said):
    with pytest.raises(UsageError, match=said):
        from_official("hunyuan_dit", ARGUMENTS | changed, {})


def test_a_file_of_version_1_1_is_refused_with_the_keys_that_differ():
    """Version 1.1 also embeds the image's sizes and a style: 6 * 256 and 32 inputs more."""
    state = load_file(GOLDEN / "weights.safetensors")
    state["style_embedder.weight"] = torch.zeros(1, 32)
    state["extra_embedder.0.weight"] = torch.zeros(128, 1024 + 6 * 256 + 32)
    with pytest.raises(UsageError) as caught:
        from_official("hunyuan_dit", ARGUMENTS, state)
    assert "1 keys left over (style_embedder.weight)" in str(caught.value)
    assert "extra_embedder.linear_1.weight is (128, 2592), not (128, 1024)" in str(caught.value)


# Training from scratch


@pytest.mark.slow
def test_a_new_model_predicts_zero_and_learns():
    torch.manual_seed(0)
    fresh = networks.build(catalog.card("painted-digits"), device="cpu")
    inputs = fresh.inputs(16)
    for key, value in inputs.items():
        if value.is_floating_point():
            inputs[key] = torch.randn_like(value)
    inputs["timestep"] = torch.randint(0, 1000, (16,))
    inputs["text_embedding_mask"][:, 6:] = 0  # the rest is padding, whose embedding is learned
    target = torch.randn(16, 1, 16, 16)
    assert not fresh(**inputs).sample.any()
    optimizer = torch.optim.Adam(fresh.parameters(), lr=2e-3)
    losses = []
    for _ in range(50):
        loss = (fresh(**inputs).sample[:, :1] - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad.any() for parameter in fresh.parameters())
    assert losses[-1] < 0.5 * losses[0]
