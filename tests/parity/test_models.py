"""Networks and Skip-Cache against outputs of the official code, through the real weight renaming.

`golden/c2i` and `golden/c2v` hold small official models (OpenSparseLLMs/Skip-DiT 72609de, float32
on a CPU; every weight re-drawn, so that nothing is zero), their inputs and outputs. Inputs of
different steps are independent, so a step's output depends on that step's input and on what was
cached, and on nothing else.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from skipdit_cli import registry
from skipdit_cli.checkpoints.official import from_official
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.loop import replay
from skipdit_cli.sites import Site, site_modules
from skipdit_cli.spec import parse_cache

GOLDEN = Path(__file__).parent / "golden"
FAMILY = {"c2i": "dit", "c2v": "latte"}
CASES = {task: json.loads((GOLDEN / task / "case.json").read_text()) for task in FAMILY}
SEQUENCES = [
    (task, name)
    for task, case in CASES.items()
    for name in case["runs"]
    if not name.startswith("mixt")
]
CACHED = [(task, name) for task, name in SEQUENCES if CASES[task]["runs"][name].get("full")]


@cache
def tensors(task):
    return load_file(GOLDEN / task / "io.safetensors")


@cache
def build(task, skip, extras):
    state = load_file(GOLDEN / task / "weights.safetensors")
    arguments = {**CASES[task]["ctor"], "skip": skip}
    if task == "c2v":
        arguments["extras"] = extras
    if extras == 1:
        state = {key: value for key, value in state.items() if not key.startswith("y_embedder.")}
    return from_official(FAMILY[task], arguments, state)


def model_of(task, run):
    return build(task, run["model"] != "vanilla", run.get("extras"))


def play(task, run, cache=None):
    """Our outputs of a run, [steps, B, ...], and those of the official code."""
    io, name = tensors(task), next(n for n, r in CASES[task]["runs"].items() if r is run)
    x, t, *y = (io[key] for key in run["inputs"])
    steps = run.get("step_indices", range(len(t)))
    conditions = {"class_labels": y[0]} if y else {}
    model = model_of(task, run)
    if run.get("N"):  # a cached sequence: every step matters for the next
        outputs = replay(
            model,
            parse_cache(cache or f"skip-cache(n={run['N']})").resolve(model.layout()),
            t,
            x,
            guidance=run.get("cfg_scale"),
            conditions=conditions,
        )
    else:
        chosen = torch.tensor(list(steps))
        outputs = replay(
            model,
            parse_cache("none").resolve(model.layout()),
            t[chosen],
            x[chosen],
            guidance=run.get("cfg_scale"),
            conditions=conditions,
        )
    return torch.stack(outputs), io[name]


def close(ours, official, *, guided):
    atol = 1e-4 if guided else 2e-5
    torch.testing.assert_close(ours, official, atol=atol, rtol=1e-4)


@pytest.mark.parametrize(("task", "name"), SEQUENCES)
def test_every_step_is_the_official_one(task, name):
    run = CASES[task]["runs"][name]
    ours, official = play(task, run)
    close(ours, official, guided="cfg_scale" in run)


@pytest.mark.parametrize("label", ["skip", "vanilla"])
def test_every_sample_of_a_batch_may_have_its_own_timestep(label):
    run = CASES["c2i"]["runs"][f"mixt.{label}_out"]
    x, t, y = (tensors("c2i")[key] for key in run["inputs"])
    assert t[0] != t[1]
    with torch.no_grad():
        ours = model_of("c2i", run)(x, t, class_labels=y, return_dict=False)[0]
    close(ours, tensors("c2i")[f"mixt.{label}_out"], guided=False)


@pytest.mark.parametrize(
    ("task", "tables"), [("c2i", ["pos_embed"]), ("c2v", ["pos_embed", "temp_embed"])]
)
def test_position_tables_are_the_official_ones(task, tables):
    """Ours are computed; what a checkpoint holds replaces them on load."""
    official = load_file(GOLDEN / task / "weights.safetensors")
    arguments = {**CASES[task]["ctor"], "num_classes": 10}
    ours = registry.load("models", FAMILY[task]).MODEL(**arguments)
    for table in tables:
        torch.testing.assert_close(getattr(ours, table), official[table], atol=1e-6, rtol=0)


def layers_run(model, call):
    """Per call of the model, the layers whose attention really ran."""
    seen: list[set[int]] = []
    attention = {s.layer: m for s, m in site_modules(model).items() if s.kind == "attn.spatial"}
    handles = [model.register_forward_pre_hook(lambda *_: seen.append(set()))]
    handles += [
        module.qkv.register_forward_pre_hook(lambda *_, layer=layer: seen[-1].add(layer))
        for layer, module in attention.items()
    ]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return seen, set(attention)


@pytest.mark.parametrize(("task", "name"), CACHED)
def test_the_official_steps_are_full_and_the_others_run_the_official_layers(task, name):
    run = CASES[task]["runs"][name]
    model = model_of(task, run)
    seen, every = layers_run(model, lambda: play(task, run))
    assert [layers == every for layers in seen] == run["full"]
    official = {"c2i": {0, 1, 2, 3, 8, 9, 10, 11}, "c2v": {0, 13}}[task]
    if "blocks_run_on_cached_step" in run:
        blocks = run["blocks_run_on_cached_step"]
        assert official == {b // 2 if task == "c2v" else b for b in blocks}
    assert all(layers == official for layers in seen if layers != every)

    timesteps = tensors(task)[run["inputs"][1]].tolist()
    session = Session(parse_cache(f"skip-cache(n={run['N']})").resolve(model.layout()), timesteps)
    assert [not sites for sites in session.reused] == run["full"]
    middle = {Site("layer", i) for i in every - official}
    assert all(
        {s for s in sites if s.kind == "layer"} == middle for sites in session.reused if sites
    )


@pytest.mark.parametrize(
    ("task", "name", "wrong"),
    [
        ("c2i", "cache3.out", "skip-cache(n=2)"),
        ("c2i", "cache3.out", "skip-cache(n=3,branch=3)"),
        ("c2i", "cache3.out", "skip-cache(n=3,window=500-20)"),
        ("c2i", "lowt.out", "skip-cache(n=3,window=1000-19)"),
        ("c2v", "e1.cache3.out", "skip-cache(n=4)"),
        ("c2v", "e1.cache3.out", "skip-cache(n=3,branch=2)"),
        ("c2v", "edge.out", "skip-cache(n=3,window=901-50)"),
        ("c2v", "edge.out", "skip-cache(n=3,window=900-51)"),
    ],
)
def test_a_wrong_schedule_would_be_noticed(task, name, wrong):
    ours, official = play(task, CASES[task]["runs"][name], wrong)
    assert (ours - official).abs().max() > 0.1  # thousands of times the tolerance
