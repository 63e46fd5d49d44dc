"""Calibration: what is observed, what is fitted, where it is kept, and how a run finds it."""

import json
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from skipdit_cli import registry
from skipdit_cli.analyze import calibrate as analysis
from skipdit_cli.analyze.looking import Spot, Subject
from skipdit_cli.cache import CacheSpec
from skipdit_cli.checkpoints import catalog, local, networks
from skipdit_cli.errors import (
    MissingAssetError,
    SkipditError,
    SkipditWarning,
    StoreError,
    UsageError,
)
from skipdit_cli.generate.batch import latents_of
from skipdit_cli.generate.decode import visible
from skipdit_cli.generate.local import Local
from skipdit_cli.generate.options import Options
from skipdit_cli.recipe import calibration, runs
from skipdit_cli.recipe.calibration import Calibration
from skipdit_cli.samplers import timesteps
from skipdit_cli.sites import Layout, Seen, Site, place_of, site_modules
from skipdit_cli.spec import parse_cache

FOUND = Calibration(
    model="digits",
    method="teacache",
    weights=local.fingerprint(catalog.card("digits")),
    sampler="ddim",
    steps="50",
    guidance=2.0,
    num_samples=4,
    seed=0,
    pairs=196,
    settings={"coefficients": (0.5, -1e-05, 3.0)},
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    return tmp_path


TEACACHE, MAG_CACHE = (registry.load("caches", name) for name in ("teacache", "mag-cache"))


def polynomial(changes, outputs):
    """Of one sample, and with a last step that is unlike all others."""
    observed = np.stack([np.append(changes, 9.0), np.append(outputs, 99.0)], axis=-1)
    return TEACACHE.fit(observed[None])["coefficients"]


def ratios(observed):
    return MAG_CACHE.fit(observed)["ratios"]


def seen(output, *, samples, guided, added=None):
    """A step whose modulated input is the same as its output; `added` by all two layers."""
    first, last = Site("layer", 0), Site("layer", 1)
    entered = {Site("attn.spatial", 0): output}
    if added is not None:
        entered[first] = torch.zeros_like(added)
    return Seen(entered, {last: added}, output, samples, guided)


def change(now, before, **how):
    """What teacache observes, of the output alone."""
    return TEACACHE.observe(LAYOUT, seen(now, **how), seen(before, **how))[:, 1]


def growth(now, before, **how):
    return MAG_CACHE.observe(LAYOUT, seen(now, added=now, **how), seen(before, added=before, **how))


LAYOUT = Layout("toy", 2, ("attn.spatial",))


def test_the_fit_recovers_a_polynomial_that_rises():
    """And the last step, which is full whatever has changed, is left out."""
    true = (3.0, -2.0, 0.5, 1.25, 0.01)
    changes = np.linspace(0, 1, 40)
    assert polynomial(changes, np.polyval(true, changes)) == pytest.approx(true, abs=1e-5)


def test_the_fit_is_one_of_least_squares():
    """Twice the same changes, outputs 0.1 above and below: the line between them."""
    changes = np.tile(np.linspace(0, 1, 10), 2)
    outputs = changes + np.repeat([0.1, -0.1], 10)
    assert polynomial(changes, outputs) == pytest.approx((0, 0, 0, 1, 0), abs=1e-6)


def steep(changes):
    """Nearly nothing up to 0.1, and then all at once: least squares alone go below zero."""
    return 0.01 + 30 * np.clip(changes - 0.1, 0, None)


def test_the_fit_never_falls_and_is_never_below_zero():
    """Nowhere from 0 on, beyond what was observed too."""
    changes = np.append(np.linspace(0.01, 0.1, 60), [0.15, 0.2])
    assert np.polyval(np.polyfit(changes, steep(changes), 4), changes).min() < 0
    found = np.polyval(polynomial(changes, steep(changes)), np.linspace(0, 2, 4001))
    assert found.min() >= 0
    assert np.diff(found).min() >= 0


def test_what_rises_and_falls_again_is_followed_only_where_it_rises():
    """As 1 - (x - 1/2)^2 does: the nearest that never falls tells a quarter of it."""
    changes = np.linspace(0, 1, 41)
    outputs = 1 - (changes - 0.5) ** 2
    with pytest.warns(SkipditWarning, match=r"^teacache: changes of its input tell 2\d% of how"):
        found = polynomial(changes, outputs)
    assert np.diff(np.polyval(found, np.linspace(0, 3, 999))).min() >= 0


def test_where_outputs_change_less_as_inputs_change_more_the_fit_is_their_mean():
    changes = np.linspace(0.2, 0.4, 21)
    with pytest.warns(SkipditWarning, match="tell 0% of how the output changes; it will do little"):
        assert polynomial(changes, 1 - changes) == pytest.approx((0, 0, 0, 0, 0.7), abs=1e-6)


def test_outputs_that_are_all_the_same():
    with pytest.warns(SkipditWarning, match="tell 0%"):
        assert polynomial(np.arange(9.0), np.full(9, 0.5)) == pytest.approx((0, 0, 0, 0, 0.5))


def test_too_few_observations():
    with pytest.raises(UsageError, match=r"^--steps: 4 observations cannot give 5 coefficients"):
        polynomial(np.arange(4.0), np.arange(4.0))


def test_ratios_are_means_over_samples_and_the_first_is_one():
    assert ratios(np.array([[1.0, 0.5], [2.0, 0.25]])) == (1.0, 1.5, 0.375)


def test_values_keep_six_digits():
    assert ratios(np.array([[1.23456789]])) == (1.0, 1.23457)


def test_a_change_is_relative_and_of_both_halves_of_a_sample():
    """Halves [a, b; a, b]: a changes by 1 + 3 of 2 + 2, b by nothing."""
    before = torch.tensor([[2.0], [5.0], [2.0], [5.0]])
    now = torch.tensor([[3.0], [5.0], [5.0], [5.0]])
    found = change(now, before, samples=2, guided=True)
    assert found.tolist() == [1, 0]


def test_frames_in_the_batch_belong_to_their_sample():
    """Two samples of two frames, without guidance."""
    before = torch.tensor([[1.0], [1.0], [4.0], [4.0]])
    now = torch.tensor([[2.0], [1.0], [4.0], [6.0]])
    assert change(now, before, samples=2, guided=False).tolist() == [0.5, 0.25]


def test_growth_is_a_mean_over_tokens_of_ratios_of_norms():
    """Tokens (3, 4) -> (6, 8) and (0, 1) -> (0, 4): (2 + 4) / 2."""
    before = torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    now = torch.tensor([[[6.0, 8.0], [0.0, 4.0]]])
    assert growth(now, before, samples=1, guided=False).tolist() == [3]


class First(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.Identity()

    def forward(self, x):
        return self.attn(2 * x) + 1


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.Identity()

    def forward(self, x):
        return x


class Toy(nn.Module):
    """x -> 2x + 1 -> 2x + 1, given out ten times as large; the layers add x + 1."""

    SITES = {"layer": "layers.{i}", "attn.spatial": "layers.{i}.attn"}

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([First(), Last()])

    def forward(self, x):
        return (10 * self.layers[1](self.layers[0](x)),)

    def layout(self):
        return LAYOUT


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # input 2 -> 3: modulated 4 -> 6; outputs 50 -> 70. Then 3 -> 3.
        ("teacache", [[[0.5, 0.4]], [[0, 0]]]),
        ("mag-cache", [[4 / 3], [1]]),  # the layers add 3, 4, 4
    ],
)
def test_what_is_observed_by_hand(method, expected):
    model = Toy()
    found = watching(method, model)
    with found.on():
        for x in (2.0, 3.0, 3.0):
            model(torch.tensor([[[x]]]))
            found.step()
    assert torch.allclose(torch.stack(found.observed), torch.tensor(expected))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_steps_of_two_networks_are_not_compared():
    """The second one begins where the layers add 4 in place of 3."""
    model = Toy()
    found = watching("mag-cache", model, (range(1), range(1, 3)))
    with found.on():
        for x in (2.0, 3.0, 4.0):
            model(torch.tensor([[[x]]]))
            found.step()
    assert torch.stack(found.observed).flatten().tolist() == pytest.approx([1, 5 / 4])


def watching(method, model, stretches=(range(3),)):
    chosen = registry.load("caches", method)
    spots = [
        Spot(site, each, place_of(model, site.kind), True)
        for site, each in site_modules(model).items()
    ]
    run = SimpleNamespace(cache=SimpleNamespace(layout=LAYOUT), stretches=stretches)
    subject = Subject(run, [model], [spots])
    return analysis.Watching(subject, chosen, chosen.Config(), samples=1)


@pytest.mark.parametrize("method", ["teacache", "mag-cache"])
def test_two_calls_of_a_step_are_one_batch(method):
    """As guidance is in two calls; each half counts."""
    model, seen = Toy(), []
    for calls in ((lambda x: model(x)), (lambda x: [model(half) for half in x.split(1)])):
        found = watching(method, model)
        with found.on():
            for x in ([2.0, 1.0], [3.0, 5.0], [3.0, 2.0]):
                calls(torch.tensor(x)[:, None, None])
                found.step()
        seen.append(torch.stack(found.observed))
    assert torch.equal(*seen)
    assert seen[0].shape[:2] == (2, 1)


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
def test_what_is_not_finite_is_not_fitted(home, monkeypatch, value):
    def observe(layout, now, before):
        return torch.full((now.samples, 2), value)

    monkeypatch.setattr(TEACACHE.module, "observe", observe)
    run = runs.make_run("digits", "none", {"steps": "7", "num_samples": 1})
    with pytest.raises(
        SkipditError, match=r"^digits: what it computes is not finite; take --preci"
    ):
        analysis.calibrate(run, "teacache", Options(root=home))


DP_CACHE = registry.load("caches", "dp-cache")
SHORT = {"steps": "7", "num_samples": 2, "batch_size": 1}


@pytest.fixture
def told():
    """Stages, and how far each is: a list of (what, done, of all)."""
    seen = []

    @contextmanager
    def stage(what):
        yield lambda done, total: seen.append((what, done, total))

    return stage, seen


def calibrated(home, stage, engine=None):
    run = runs.make_run("digits-skip", "none", SHORT)
    options = Options(root=home / "results", stage=stage, engine=engine or Local())
    configs = [DP_CACHE.Config(full=full) for full in (3, 2)]
    return analysis.calibrate(run, "dp-cache", options, configs=configs)


def test_of_several_answers_the_one_that_comes_nearest_is_kept(home, told):
    """And every batch is watched, probed and tried once, whatever number of steps is asked for."""
    stage, seen = told
    found = calibrated(home, stage)
    assert [each.variant for each in found] == [
        {"full": 3, "branch": 2},
        {"full": 2, "branch": 2},
    ]
    watched, probed, *tried = [each for each in seen if each[1] == each[2]]
    of = "calibrating dp-cache on digits-skip"
    assert watched == (f"{of}: the uncached samples", 2, 2)
    assert probed == (f"{of}: what one reused step does", 2 * 5, 2 * 5)  # 1 and the last four
    assert [what for what, *_ in tried] == [
        f"{of}: 6 answers, full={full}, branch=2" for full in (3, 2)
    ]
    run = runs.make_run("digits-skip", "none", SHORT)
    model = networks.load(run.card, path=None, device="cpu", dtype="float32")
    uncached, near = latents(run, model, home), {}
    for each in found:
        assert len(each.tried) == 6
        spec = CacheSpec(DP_CACHE, DP_CACHE.Config(full=each.variant["full"], **each.settings))
        cached = replace(run, cache=spec.resolve(run.cache.layout))
        both = (visible(each, run.card) for each in (latents(cached, model, home), uncached))
        off = torch.sub(*both).square().flatten(1).mean(dim=1)
        near = float((-10 * torch.log10(off)).mean())
        assert near == pytest.approx(max(each.tried.values()), abs=0.01)
    assert not list((home / "results/analysis/parts").iterdir())


def latents(run, model, home):
    indices = range(run.num_samples)
    parts = [latents_of(run, indices[i : i + 1], model=model, root=home) for i in (0, 1)]
    return torch.cat(parts)


def test_a_calibration_that_was_stopped_goes_on(home, told):
    stage, seen = told
    whole = calibrated(home, stage)
    seen.clear()

    @contextmanager
    def stops(what):
        def update(done, total):
            seen.append((what, done, total))
            if "reused" in what and done == 5:
                raise KeyboardInterrupt

        yield update

    with pytest.raises(KeyboardInterrupt):
        calibrated(home, stops)
    assert [done for _, done, _ in seen] == [0, 1, 2, *range(6)]  # of the samples, then probes
    seen.clear()
    again = calibrated(home, stage)
    assert [each.settings for each in again] == [each.settings for each in whole]
    assert next(each for each in seen if "reused" in each[0])[1:] == (5, 10)


@pytest.mark.slow
def test_several_processes_calibrate_the_same(home, told):
    stage, _ = told
    alone, together = (calibrated(home, stage, engine) for engine in (Local(), Local(2)))
    assert [each.settings for each in together] == [each.settings for each in alone]
    assert [each.tried for each in together] == [each.tried for each in alone]


def test_a_calibration_is_for_its_own_number_of_full_steps(home):
    """Each has a file; another number is refused, and the command names it."""
    found = replace(
        FOUND,
        model="digits-skip",
        method="dp-cache",
        weights=local.fingerprint(catalog.card("digits-skip")),
        settings={"steps": (0, 9), "coefficients": (0.0, 0.0, 1.0, 0.5)},
        variant={"full": 2, "branch": 1},
    )
    path = calibration.write_calibration(found, calibration.folder("digits-skip"))
    assert path.name == "dp-cache-full=2,branch=1-ddim-50.json"
    assert calibration.read_calibration(path, "digits-skip") == found
    run = runs.make_run("digits-skip", "dp-cache(full=2,branch=1)")
    assert str(run.cache) == ("dp-cache(full=2,branch=1,steps=0/9,coefficients=0.0/0.0/1.0/0.5)")
    with pytest.raises(MissingAssetError) as caught:
        runs.make_run("digits-skip", "dp-cache(full=2,branch=2)")
    problem, _, fix = str(caught.value).partition("; ")
    assert problem.startswith(
        "dp-cache has not been calibrated on digits-skip for full=2,branch=2-ddim-50, only for "
        "full=2,branch=1-ddim-50"
    )
    making = "skipdit analyze calibrate --model digits-skip --method dp-cache --full 2 --branch"
    assert fix == f"run `{making} 2`"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    with pytest.raises(StoreError, match=f"{making} 1 --sampler ddim --steps 50`"):
        runs.make_run("digits-skip", "dp-cache(full=2,branch=1)")


def test_a_plan_of_weights_that_are_not_here_takes_what_costs_the_same(home):
    run = runs.make_run("latte-skip", "dp-cache(full=17)")
    assert sum(map(bool, run.cache.reused(run.timesteps, guided=True))) == 33


def test_a_file_reads_back(home):
    path = calibration.write_calibration(FOUND, calibration.folder("digits"))
    assert path == home / "calibration/digits/teacache-ddim-50.json"
    assert calibration.read_calibration(path, "digits") == FOUND


def test_a_file_of_another_model_or_that_was_changed(home):
    path = calibration.write_calibration(FOUND, calibration.folder("digits"))
    with pytest.raises(StoreError, match=r"digits, teacache-ddim-50\); run `skipdit ana"):
        calibration.read_calibration(path, "digits-skip")
    path.write_text(path.read_text().replace("-1e-05", "1e-05"))
    with pytest.raises(StoreError, match="it was changed or damaged after it was written"):
        runs.make_run("digits", "teacache")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": "digits"}'])
def test_a_file_that_is_no_calibration(tmp_path, text):
    path = tmp_path / "teacache.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"teacache\.json: is not a readable calibration"):
        calibration.read_calibration(path, "digits")


def test_a_run_holds_the_numbers_and_its_key_changes_with_them(home):
    shipped = runs.make_run("digits", "teacache")
    calibration.write_calibration(FOUND, calibration.folder("digits"))
    own = runs.make_run("digits", "teacache")
    assert str(own.cache) == "teacache(threshold=0.1,coefficients=0.5/-1e-05/3.0)"
    assert own.key != shipped.key
    calibration.write_calibration(
        replace(FOUND, settings={"coefficients": (0.5, -1e-05, 4.0)}), calibration.folder("digits")
    )
    assert runs.make_run("digits", "teacache").key != own.key
    given = runs.make_run("digits", "teacache(coefficients=1/2)")
    assert given.cache.settings.coefficients == (1, 2)


def test_a_calibration_of_other_weights_is_refused(home):
    calibration.write_calibration(
        replace(FOUND, weights="0123456789abcdef"), calibration.folder("digits")
    )
    with pytest.raises(UsageError) as caught:
        runs.make_run("digits", "teacache")
    assert "on the weights 0123456789abcdef of digits and these are" in str(caught.value)
    command = "`skipdit analyze calibrate --model digits --method teacache`"
    assert str(caught.value).endswith(f"; run {command} again, with the same --weights if any")


def test_weights_that_are_not_here_yet_take_the_calibration(home):
    """A plan is made before the download."""
    calibration.write_calibration(
        replace(FOUND, weights="0123456789abcdef"), calibration.folder("digits")
    )
    given = {"sampler": registry.load("samplers", "ddim"), "steps": "50", "guidance": 2.0}
    spec, card = parse_cache("teacache"), catalog.card("digits")
    found = calibration.complete(spec, card, fingerprint="absent", **given)
    assert found.config.coefficients == (0.5, -1e-05, 3.0)
    with pytest.raises(UsageError, match="these are fedcba9876543210"):
        calibration.complete(spec, card, fingerprint="fedcba9876543210", **given)


@pytest.mark.parametrize(
    ("settings", "is_for"),
    [
        ({"steps": "20"}, "ddim-20"),
        ({"sampler": "ddpm"}, "ddpm-50"),
        ({"steps": "ddim25"}, "ddim-25"),
    ],
)
def test_a_calibration_of_another_sampler_or_number_of_steps_is_refused(home, settings, is_for):
    with pytest.raises(MissingAssetError) as caught:
        runs.make_run("digits", "mag-cache", settings, place="--cache")
    how = {"sampler": "ddim", "steps": "50", **settings}
    assert str(caught.value) == (
        f"--cache: mag-cache has not been calibrated on digits for {is_for}, only for ddim-50; "
        "run `skipdit analyze calibrate --model digits --method mag-cache "
        f"--sampler {how['sampler']} --steps {how['steps']}`"
    )


def test_another_spelling_of_the_same_number_of_steps_is_fine(home):
    assert runs.make_run("digits", "mag-cache", {"steps": "ddim50"}).cache.settings.ratios


@pytest.mark.parametrize("method", ["teacache", "mag-cache"])
def test_without_a_calibration_the_command_is_named(home, method):
    with pytest.raises(MissingAssetError) as caught:
        runs.make_run("latte-skip", method, place="--cache")
    assert str(caught.value) == (
        f"--cache: {method} has not been calibrated on latte-skip; "
        f"run `skipdit analyze calibrate --model latte-skip --method {method}`"
    )


EMBEDDED = [name for name, card in catalog.CARDS.items() if card.embedded]


@pytest.mark.parametrize("method", ["teacache", "mag-cache"])
@pytest.mark.parametrize("model", EMBEDDED)
def test_the_embedded_models_come_calibrated(home, model, method):
    card = catalog.CARDS[model]
    [path] = calibration.files(card, f"{method}-*.json")
    found, sampling = calibration.read_calibration(path, model), card.sampling
    assert (found.model, found.method) == (model, method)
    assert found.weights == local.fingerprint(catalog.card(model))
    assert (found.steps, found.sampler) == (sampling.steps, sampling.sampler)
    [values] = found.settings.values()
    assert len(values) == (5 if method == "teacache" else len(timesteps(sampling.steps)))
    if method == "teacache":
        given = np.polyval(values, np.linspace(0, 1, 2001))
        assert given.min() >= 0
        assert np.diff(given).min() > -1e-7  # a slope that touches zero, in six digits
    assert found.provenance["command"].startswith(calibration.command(model, method))
    assert "/tmp" not in json.dumps(found.provenance)


@pytest.mark.parametrize("model", EMBEDDED)
def test_the_embedded_models_come_with_full_steps_that_were_placed(model):
    """For as many as skip-cache has with n = 2, 3, 4 and 6; by another seed than samples have."""
    card = catalog.CARDS[model]
    own = calibration.file_name(
        "dp-cache", sampler=card.sampling.sampler, steps=50, variant={"full": "*"}
    )
    found = [calibration.read_calibration(path, model) for path in calibration.files(card, own)]
    branches = {each.variant["branch"] for each in found}
    others = {"digits": {2}, "digits-skip": {1, 2}, "fashion": {3}, "fashion-skip": {1, 3}}
    assert branches == others.get(model, {1})
    for branch in branches:
        its = sorted(each.variant["full"] for each in found if each.variant["branch"] == branch)
        assert its == [9, 13, 17, 25]
    for each in found:
        assert each.weights == local.fingerprint(catalog.card(model))
        assert each.seed == 1
        assert len(each.tried) == 6
        assert each.tried["even, freeze"] < max(each.tried.values()) - 1
        assert "/tmp" not in json.dumps(each.provenance)


def test_every_calibrated_method_can_be():
    assert calibration.methods() == ["dp-cache", "mag-cache", "teacache"]
