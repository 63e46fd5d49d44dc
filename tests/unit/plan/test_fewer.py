"""Uncached runs that cost what caches do: how many steps, and which runs."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from skipdit_cli.errors import SkipditWarning, UsageError
from skipdit_cli.plan import fewer, plan
from skipdit_cli.recipe.runs import make_run

SETTINGS = {"steps": "50", "num_samples": 2, "batch_size": 2}


def run(cache, model="digits-skip", **settings):
    return make_run(model, cache, {**SETTINGS, **settings})


@pytest.mark.parametrize(
    ("flops", "steps"),
    [(100, 10), (64, 6), (65, 7), (66, 7), (14, 1), (15, 2), (1, 1), (None, None)],
)
def test_the_nearest_number_of_steps_by_hand(monkeypatch, flops, steps):
    """Ten steps are 100 FLOPs: 64 is nearest to 6, and 65 to 7, half a step more than it costs."""
    whole = SimpleNamespace(flops=200)  # of a batch of two
    monkeypatch.setattr(plan, "plan", lambda run, *, batch: whole if batch == 2 else None)
    planned = replace(planned_of_two(), flops=flops and 2 * flops)
    assert fewer.count(planned) == steps


@pytest.mark.parametrize(
    ("flops", "steps", "found"),
    [
        (65, (6, 7), 7),
        (65, (6,), 6),
        (64, (6, 7), 6),
        (64, (5, 7), None),
        (60, (5, 7), None),
        (65, (5, 8, None), None),
        (255.2, (24, 25, 28), 25),
        (255.2, (24,), None),
        (None, (6, None), None),
    ],
)
def test_the_steps_of_a_recipe_that_cost_as_much_by_hand(monkeypatch, flops, steps, found):
    """Half a step more or less than it costs at most, or a fortieth."""
    monkeypatch.setattr(plan, "plan", lambda run, *, batch: SimpleNamespace(flops=200))
    planned = replace(planned_of_two(), flops=flops and 2 * flops)
    assert fewer.of_equal_cost(planned, steps) == found


def planned_of_two():
    return plan.RunPlan(
        run=run("skip-cache", steps="10"),
        steps=10,
        full_steps=5,
        cached_steps=5,
        batch=2,
        macs_paper=0,
        macs_executed=0,
        flops=0,
        ideal_speedup=1.0,
        disk_bytes=0,
        missing=[],
    )


def test_a_run_for_every_cost_that_is_less_and_each_once():
    """n=2 is nearest to 42 of 50 steps and n=3 to 39; n=1 saves nothing."""
    asked = [run(f"skip-cache({each})") for each in ("n=1", "n=2", "n=2,order=1", "n=3")]
    found = fewer.fewer_steps([asked[0].reference, *asked])
    assert [each.steps for each in found] == ["42", "39"]
    assert {each.reference for each in found} == {asked[0].reference}
    assert not any(each.is_reference for each in found)
    for each, cached in zip(found, asked[1::2], strict=True):
        flops, other = (plan.plan(one).flops for one in (each, cached))
        assert abs(flops - other) <= plan.plan(each.reference).flops / 50 / 2
        assert plan.plan(each).ideal_speedup == pytest.approx(50 / int(each.steps))


def test_a_method_that_saves_attention_is_matched_by_all_of_it():
    """On HunyuanDiT PAB leaves 78 % of the paper's MACs, 39 steps, and 71 % of the operations."""
    pab = run("pab(n=3)", "hunyuan-dit", prompts=("a horse",))
    planned, whole = plan.plan(pab), plan.plan(pab.reference)
    assert planned.macs_paper / whole.macs_paper == pytest.approx(0.784, abs=1e-3)
    (found,) = fewer.fewer_steps([pab])
    assert found.steps == "35"
    assert plan.plan(found).flops <= planned.flops + whole.flops / 50 / 2


def test_its_samples_are_those_of_the_plain_run():
    (found,) = fewer.fewer_steps([run("skip-cache(n=2)")])
    plain = run("none", steps="42")
    assert (found.key, found.to_dict()) == (plain.key, plain.to_dict())
    assert plain.is_reference
    assert plain.reference == plain
    assert found.stream(1) == plain.stream(1)


def test_steps_are_spaced_as_those_of_the_reference_where_the_sampler_can(monkeypatch):
    """Of 50 steps ddim25 is every fortieth timestep; there is no ddim41."""
    cached = [run("fora(n=2)", "digits", steps="ddim50")]
    monkeypatch.setattr(fewer, "count", lambda planned: 25)
    assert [each.steps for each in fewer.fewer_steps(cached)] == ["ddim25"]
    monkeypatch.setattr(fewer, "count", lambda planned: 41)
    assert [each.steps for each in fewer.fewer_steps(cached)] == ["41"]
    sections = [run("fora(n=2)", "digits", steps="20,30")]
    assert [each.steps for each in fewer.fewer_steps(sections)] == ["41"]


def test_a_sampler_that_cannot_take_so_many_has_no_row():
    class Fixed:
        name, STOCHASTIC = "fixed", False

        def timesteps(self, steps):
            if steps != "50":
                raise UsageError("50 steps are all that there are")
            return list(range(999, 0, -20))

    told = r"no uncached run is held against skip-cache\(n=2,.*: fixed cannot take 42 steps"
    with pytest.warns(SkipditWarning, match=told):
        assert not fewer.fewer_steps([replace(run("skip-cache(n=2)"), sampler=Fixed())])


def test_what_a_dynamic_method_costs_is_known_once_it_has_run(tmp_path, monkeypatch):
    cached = run("first-block(threshold=0.1)", steps="10")
    assert fewer.fewer_steps([cached], root=tmp_path) == []
    seen = [cached.cache.skipped if step % 2 else frozenset() for step in range(10)]
    monkeypatch.setattr(plan, "observed", lambda run, root: seen)
    (found,) = fewer.fewer_steps([cached], root=tmp_path)
    assert 5 <= int(found.steps) < 8


def test_steps_of_the_reference_that_are_its_own_are_none():
    assert run("none", reference_steps="50").is_reference
    other = run("skip-cache(n=2)", steps="25", reference_steps="50")
    assert other.reference == run("none")
    assert other.key == run("skip-cache(n=2)", steps="25").key
