"""The settings that come nearest to a cost, against costs that can be worked out on paper."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from skipdit_cli.caches import WINDOWS, usual_choices
from skipdit_cli.errors import UsageError
from skipdit_cli.plan import target
from skipdit_cli.profiling import counts
from skipdit_cli.profiling.cost import Cost, Costs
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.sites import Site

SIX = {"steps": "6"}  # timesteps 999, 799, 599, 400, 200, 0


@pytest.mark.parametrize(
    ("given", "value", "macs", "shown"),
    [
        ({}, None, False, "None"),
        ({"speedup": "1.5"}, 1.5, False, "1.5x"),
        ({"speedup": "2x"}, 2.0, False, "2x"),
        ({"macs": "60%"}, 0.6, True, "60 % of MACs"),
        ({"macs": "33.3%"}, 0.333, True, "33.3 % of MACs"),
    ],
)
def test_targets(given, value, macs, shown):
    found = target.parse(**given)
    assert str(found) == shown
    if found:
        assert (found.value, found.macs) == (pytest.approx(value), macs)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"speedup": "1"}, "--target-speedup: '1' is not a speedup; write 1.5, above 1"),
        ({"speedup": "fast"}, "--target-speedup: 'fast' is not a speedup"),
        ({"speedup": "nan"}, "'nan' is not a speedup"),
        ({"speedup": ""}, "'' is not a speedup"),
        ({"speedup": "-2"}, "'-2' is not a speedup"),
        ({"macs": "0.6"}, "--target-macs: '0.6' is not a share of the uncached MACs; write 60%"),
        ({"macs": "100%"}, "'100%' is not a share"),
        ({"macs": "0%"}, "'0%' is not a share"),
        ({"speedup": "1.5", "macs": "60%"}, "say the same; give one of them"),
    ],
)
def test_mistakes_in_a_target(given, message):
    with pytest.raises(UsageError) as caught:
        target.parse(**given)
    assert message in str(caught.value)


@pytest.fixture
def six_layers(monkeypatch):
    """digits-skip: a call is 12 and each of its six layers 2, of which MACs are half."""
    layer = Cost(1, 1, 2)
    sites = {Site("layer", i): layer for i in range(6)}
    inside = {}
    for kind in ("attn.spatial", "mlp.spatial"):
        for i in range(6):
            sites[Site(kind, i)] = Cost()
            inside[Site(kind, i)] = Site("layer", i)
    monkeypatch.setattr(counts, "costs", lambda card: Costs(layer * 6, sites, inside))
    return make_run("digits-skip", "none", SIX)


ONLY = {"n": [2, 3], "window": [(1000, 0)], "branch": [1, 2]}


@pytest.mark.parametrize(
    ("given", "spec", "reached"),
    [
        # A step that reuses computes 2 of 6 layers with branch 1, 4 with branch 2. With n=2 these
        # are steps 1, 3, 5, with n=3 steps 1, 2, 4, 5: 72 of 48, 60, 40 and 56.
        ({"speedup": "1.5"}, "skip-cache(window=1000-0,branch=1)", 72 / 48),
        ({"speedup": "1.21"}, "skip-cache(window=1000-0,branch=2)", 72 / 60),
        ({"speedup": "9"}, "skip-cache(n=3,window=1000-0,branch=1)", 72 / 40),
        ({"speedup": "1.29"}, "skip-cache(n=3,window=1000-0,branch=2)", 72 / 56),
        ({"macs": "56%"}, "skip-cache(n=3,window=1000-0,branch=1)", 40 / 72),
        ({"macs": "77%"}, "skip-cache(n=3,window=1000-0,branch=2)", 56 / 72),
    ],
)
def test_the_nearest_of_four(six_layers, given, spec, reached):
    asked = target.parse(**given)
    found = target.search(six_layers, asked, methods=["skip-cache"], only=ONLY)
    ((first,),) = found.found.values()
    assert first.spec.brief == spec
    assert first.reached == pytest.approx(reached)
    assert first.off == pytest.approx(abs(reached / asked.value - 1))
    assert found.searched == {"skip-cache": ["n", "window", "branch"]}


def test_other_windows_that_cost_the_same_follow_the_nearest(six_layers):
    """Inside 1000-0 steps 1, 3, 5 reuse; inside 1000-200, whose stop is reached at step 4, steps
    1 and 3; inside 700-0 steps 3 and 5, as step 1 is above; inside 900-0 the same as inside 1000-0,
    which is told once."""
    windows = [(1000, 200), (1000, 0), (900, 0), (700, 0)]
    only = {"n": [2], "branch": [1], "window": windows}
    found = target.search(
        six_layers, target.Target(72 / 56 + 0.001), methods=["skip-cache"], only=only
    )
    (settings,) = found.found.values()
    assert [(each.cache.span, each.reached) for each in settings] == [
        ("1000-200", pytest.approx(72 / 56)),
        ("700-0", pytest.approx(72 / 56)),
    ]
    found = target.search(six_layers, target.Target(1.5), methods=["skip-cache"], only=only)
    assert [each.cache.span for each in found.found["skip-cache"]] == ["1000-0"]


def test_of_settings_as_near_as_one_another_the_one_nearer_to_the_defaults(six_layers):
    """n=3 inside 700-0 reuses three steps, 2, 4 and 5, as n=2 does, which is the default."""
    only = {"n": [4, 3, 2], "window": [(700, 0), (1000, 0)], "branch": [1]}
    found = target.search(six_layers, target.Target(1.5), methods=["skip-cache"], only=only)
    assert found.found["skip-cache"][0].spec.brief == "skip-cache(window=1000-0,branch=1)"


def test_what_cannot_be_searched_is_left_out_by_name(six_layers):
    found = target.search(six_layers, target.Target(1.5), only={"n": [2]})
    assert set(found.found) >= {"skip-cache", "fora"}
    assert "none" not in found.found.keys() | found.left_out.keys()
    assert found.left_out["teacache"] == "teacache has no setting n"
    assert found.left_out["t-gate"].startswith("t-gate needs attention to text and dit has none")
    assert found.left_out["mag-cache"] == "mag-cache has no setting n"


def test_nothing_to_be_found_is_an_error(six_layers):
    with pytest.raises(UsageError) as caught:
        target.search(six_layers, target.Target(0.5, macs=True), methods=["first-block", "none"])
    assert str(caught.value) == (
        "--target-macs: nothing comes near 50 % of MACs (first-block decides while it runs, and "
        "`skipdit profile --model digits-skip --method first-block` with --target-macs 50% finds "
        "its threshold; none has no settings to vary)"
    )
    with pytest.raises(UsageError, match="unknown cache 'foar'"):
        target.search(six_layers, target.Target(1.5), methods=["foar"])


@pytest.mark.parametrize(
    ("given", "threshold", "reached", "tried"),
    [
        # A step that is skipped computes 1 of 6 layers. 0.05 skips none, 0.2 skips three: 72 of
        # 72 and 42; 0.1 skips one: 62; and 0.141 two: 52.
        ({"speedup": "1.4"}, 0.141, 72 / 52, [0.05, 0.2, 0.1, 0.141]),
        ({"speedup": "1.161"}, 0.1, 72 / 62, [0.05, 0.2, 0.1]),
        ({"macs": "60%"}, 0.2, 42 / 72, [0.05, 0.2, 0.1, 0.141]),
        # 3.2 skips all but the first, and more is not to be had.
        ({"speedup": "9"}, 3.2, 72 / 22, [0.05, 0.2, 3.2, 819.0]),
    ],
)
def test_the_threshold_of_a_dynamic_method_is_found_by_trials(
    six_layers, given, threshold, reached, tried
):
    seen = []

    def trial(run):
        assert replace(run, cache=run.cache.uncached) == six_layers
        level = run.cache.setting("threshold")
        seen.append(level)
        skipped = [level > each for each in (9999, 0.06, 0.12, 0.15, 0.3, 0.4)]
        return [run.cache.skipped if each else frozenset() for each in skipped]

    asked = target.parse(**given)
    found = target.search(six_layers, asked, methods=["first-block"], trial=trial)
    ((first, *_),) = found.found.values()
    assert first.spec.brief == f"first-block(threshold={threshold})"
    assert first.reached == pytest.approx(reached)
    assert first.off == pytest.approx(abs(first.reached / asked.value - 1))
    assert seen == tried  # each once
    assert found.searched == {"first-block": ["threshold"]}


@pytest.mark.parametrize(
    ("given", "option"), [({"speedup": "1.5"}, "--target-speedup 1.5"), ({"macs": "62.5%"}, "")]
)
def test_what_asks_for_a_target(given, option):
    assert target.parse(**given).option == (option or "--target-macs 62.5%")


@dataclass(frozen=True)
class Foreign:
    every: int = 2
    on: bool = True
    share: float = 0.5
    least: int | None = None
    name: str = "a"
    window: tuple[int, int] | None = None


def test_integers_and_the_window_of_a_method_that_says_nothing_are_searched():
    known = usual_choices(Foreign)
    assert known == {
        "every": tuple(range(1, 11)),
        "least": tuple(range(1, 11)),
        "window": WINDOWS,
    }
    assert all(1000 >= start > stop >= 0 for start, stop in WINDOWS)


def test_more_combinations_than_can_be_counted_leave_the_last_settings_alone(six_layers):
    many = {name: tuple(range(200)) for name in "abc"}
    fields = {name: SimpleNamespace() for name in many}
    config = dataclass(frozen=True)(
        type(
            "Config", (), {"__annotations__": dict.fromkeys(fields, int), **dict.fromkeys("abc", 0)}
        )
    )
    method = SimpleNamespace(
        name="many", DYNAMIC=False, Config=config, choices=lambda layout, steps: many
    )
    assert list(target._varied(method, six_layers, {})) == ["a"]
    assert list(target._varied(method, six_layers, {"b": [1, 2]})) == ["a", "b"]
