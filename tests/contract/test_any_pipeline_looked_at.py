"""Analyses of features on any pipeline: what is seen is what blocks give, and changes no bit."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skipdit_cli.analyze import dynamics, features, sensitivity, similarity
from skipdit_cli.analyze.calibrate import calibrate
from skipdit_cli.analyze.looking import halves
from skipdit_cli.checkpoints import pipeline as pipelines
from skipdit_cli.errors import UsageError
from skipdit_cli.generate.batch import latents_of, network
from skipdit_cli.generate.options import Options
from skipdit_cli.generate.pipelines import transformers_of
from skipdit_cli.recipe import calibration, called
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.sites import CONDITIONAL, NULL
from skipdit_cli.spec import parse_cache as spec_of
from tests.tiny_pipelines import CALLS, NAMES, make

IN_TWO_CALLS = ("wan", "wan22", "qwen-image", "chroma", "cogview4")  # of guidance
QUICK = ("sd3", "wan22")


def run_of(folder, name, cache="none", **more):
    call = {**CALLS[name]}
    known = pipelines.facts(pipelines.card(str(folder)).variant)
    settings = {
        "steps": str(call.pop("num_inference_steps")),
        "guidance": call.pop(known.scale),
        "negative_prompt": call.pop("negative_prompt", None),
        "call": call,
        "prompts": ("a cat", "a red dog"),
        "num_samples": 2,
        **more,
    }
    return make_run(str(folder), cache, settings)


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES],
)
def piped(request, tmp_path_factory):
    name, root = request.param, tmp_path_factory.mktemp("looked")
    folder = make(name, root / name)
    return SimpleNamespace(name=name, root=root, folder=folder, run=run_of(folder, name))


def test_what_is_seen_leaves_the_layers_and_can_be_replaced(piped):
    run, where, seen = piped.run, features.Where(piped.root), []
    layers, steps = range(run.cache.layout.layers), []

    def see(layer, x, holds):
        seen.append((layer, *halves(x, 1, holds)))

    watched = features.sample(run, [0], where, layers=layers, see=see, on_step=steps.append)
    plain = latents_of(run, [0], model=network(run), root=piped.root)
    assert torch.equal(watched, plain)
    guided = set(run.sampler.traced(run.steps).samples) == {2}
    if not guided:
        calls = [(CONDITIONAL,)]
    else:
        calls = [(CONDITIONAL,), (NULL,)] if piped.name in IN_TWO_CALLS else [(CONDITIONAL, NULL)]
    assert seen == [(layer, *half) for _ in run.timesteps for half in calls for layer in layers]
    assert [at.step for at in steps] == [*range(len(run.timesteps))]
    assert not torch.equal(steps[0].x, steps[1].x)
    last = layers[-1]
    for layer in (0, last):
        own = features.sample(run, [0], where, layers=[layer], see=lambda _, x, holds: x.clone())
        assert torch.equal(own, plain)
    changed = features.sample(run, [0], where, layers=[last], see=lambda _, x, holds: 0 * x)
    assert not torch.equal(changed, plain)
    for part in transformers_of(network(run), run.card):
        assert not any(each._forward_hooks or each._forward_pre_hooks for each in part.modules())


def test_dynamics_are_similarities_of_neighbours(piped):
    """By hand, of one layer, from what it gives without any analysis."""
    run, options = piped.run, Options(root=piped.root)
    found = dynamics.measure([run], options)
    distances = np.array(found.panels[0].values, dtype=float)
    assert distances.shape == (run.cache.layout.layers, len(run.timesteps) - 1)
    assert ((distances > -1e-9) & (distances < 2)).all()
    layer, seen = run.cache.layout.layers // 2, [[], []]
    for index in (0, 1):

        def see(_, x, holds, index=index):
            given = halves(x, 1, holds)
            if CONDITIONAL in given:
                seen[index].append(given[CONDITIONAL].flatten().double().numpy())

        features.sample(run, [index], features.Where(piped.root), layers=[layer], see=see)
    angles = [[a @ b / np.sqrt(a @ a * (b @ b)) for a, b in pairwise(each)] for each in seen]
    np.testing.assert_allclose(1 - distances[layer], np.mean(angles, axis=0), rtol=1e-6)


def test_similarity_to_itself_is_one_and_to_a_cached_one_less(piped):
    none, *cached = (
        run_of(piped.folder, piped.name, spec, steps="6")
        for spec in ("none", "fora(n=1)", "fora(n=2)")
    )
    found = similarity.measure([none], Options(root=piped.root), cached=cached)
    same, other = found.summary
    assert (same["latent similarity"], same["sample error"]) == (1.0, 0.0)
    assert same["feature similarity"] == 1.0
    assert other["sample error"] > 0
    assert other["feature error"] > 0
    latents = next(each for each in found.panels if each.title == "Relative error, latents")
    assert latents.series[cached[1].cache.short][0] == 0  # the noise is the same


def test_a_layer_that_is_reused_makes_the_sample_stray(piped):
    """As one does that keeps the whole output of the layer of the step before."""
    run, step = piped.run, 2
    found = sensitivity.measure([run], Options(root=piped.root), layers=2, every=1)
    strayed = np.array(found.panels[0].values, dtype=float)
    assert strayed.shape == (2, len(run.timesteps) - 1)
    assert np.isfinite(strayed).all()
    layer, off = run.cache.layout.layers - 1, []
    for index in (0, 1):
        calls, kept = {}, {}

        def see(_, x, holds, calls=calls, kept=kept):
            calls[holds] = calls.get(holds, -1) + 1
            before, kept[holds] = kept.get(holds), x
            return before if calls[holds] == step else None

        where = features.Where(piped.root)
        plain = latents_of(run, [index], model=network(run), root=piped.root).double()
        changed = features.sample(run, [index], where, layers=[layer], see=see).double()
        reach = plain.max() - plain.min()
        off.append(10 * np.log10(float((changed - plain).square().mean() / reach**2)))
    np.testing.assert_allclose(strayed[-1, step - 1], np.mean(off), rtol=1e-4)


UNFIT = (
    ("wan22", "no: its transformers take turns"),  # but mag-cache
    ("latte", "no: the transformer has none of the sites that it acts on"),
)
CALIBRATED = ("dp-cache", "teacache", "mag-cache")
FORECAST = "dp-cache(full=5,branch=1)"


@pytest.mark.filterwarnings("ignore:.*changes of its input tell")  # of random weights
@pytest.mark.parametrize("method", CALIBRATED)
def test_what_is_calibrated_on_it_is_used_by_it(piped, method):
    """And what is measured is what sites give, of all calls of a step."""
    if piped.name not in QUICK and NAMES.index(piped.name) % 3 != CALIBRATED.index(method):
        pytest.skip("each pipeline has one of them in turn")
    many = {"steps": "9", "num_samples": 2}
    run, options = run_of(piped.folder, piped.name, **many), Options(root=piped.root)
    configs = [spec_of(FORECAST).config] if method == "dp-cache" else None
    if (fits := called.fit(run.card, method)) != "fits, once it is calibrated":
        assert (piped.name, fits.partition(", ")[0]) in UNFIT
        with pytest.raises(UsageError, match=rf"^{method} does not fit {run.card.variant}: "):
            calibrate(run, method, options, configs=configs)
        return
    (found,) = calibrate(run, method, options, configs=configs)
    if method == "mag-cache":  # the first step of a transformer is compared with none of another
        firsts = [found.settings["ratios"][steps.start] for steps in run.stretches]
        assert firsts == [1.0] * len(run.stretches)
        assert set(found.settings["ratios"]) != {1.0}
    calibration.write_calibration(found, calibration.folder(run.model))
    text = FORECAST if method == "dp-cache" else method
    cached = run_of(piped.folder, piped.name, text, **many)
    assert vars(cached.cache.settings).items() >= found.settings.items()
    full, near = latents_of(run, [0], model=network(run), root=piped.root), None
    near = latents_of(cached, [0], model=network(run), root=piped.root)
    assert torch.isfinite(near).all()
    if method == "dp-cache":
        assert len(found.tried) == 6
        assert not torch.equal(near, full)
        assert [bool(sites) for sites in cached.reused()].count(False) == 5
