"""Every cache is searched for a cost: what is found is the nearest that trying all gives."""

from dataclasses import fields
from itertools import product

import pytest

from skipdit_cli import registry
from skipdit_cli.cache import CacheSpec
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.plan import plan, target
from skipdit_cli.recipe.runs import make_run

MODELS = ("digits-skip", "captioned-digits-skip")
CACHES = [name for name in registry.names("caches") if name != "none"]


def tried(method, layout):
    """Two values of every setting that the method wants searched."""
    known = method.choices(layout, 50)
    return {name: list(values)[len(values) // 3 :][:2] for name, values in known.items()}


def every(model, method, only):
    """By spec, the ideal speedup that `plan` tells of every combination that has a meaning."""
    speedups = {}
    for values in product(*only.values()):
        try:
            spec = CacheSpec(method, method.Config(**dict(zip(only, values, strict=True))))
            speedups[spec.brief] = plan.plan(make_run(model, spec.brief)).ideal_speedup
        except (UsageError, MissingAssetError):
            continue
    return speedups


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", CACHES)
def test_the_nearest_of_all_is_found(name, model):
    method, run = registry.load("caches", name), make_run(model)
    if method.DYNAMIC:
        with pytest.raises(UsageError, match=f"{name} decides while it runs"):
            target.search(run, target.Target(1.5), methods=[name])
        return
    only = tried(method, run.cache.layout)
    speedups = every(model, method, only)
    if not speedups:
        with pytest.raises(UsageError, match=f"{name} needs"):
            target.search(run, target.Target(1.5), methods=[name], only=only)
        return
    for goal in (1.05, 1.4, 3):
        found = target.search(run, target.Target(goal), methods=[name], only=only)
        first = found.found[name][0]
        nearest = min(abs(speedup / goal - 1) for speedup in speedups.values())
        assert first.off == pytest.approx(nearest, abs=1e-9)
        assert first.reached == pytest.approx(speedups[first.spec.brief])


@pytest.mark.parametrize("name", CACHES)
def test_what_a_method_wants_searched_are_its_settings_and_they_are_few(name):
    method, run = registry.load("caches", name), make_run("captioned-digits-skip")
    known, count = method.choices(run.cache.layout, len(run.timesteps)), 1
    assert known.keys() <= {each.name for each in fields(method.Config)}
    assert not known.keys() & set(method.CALIBRATED)
    for values in known.values():
        assert len(values) == len(set(values)) > 1
        count *= len(values) + 1
    assert method.DYNAMIC or 10 < count <= target.MOST
