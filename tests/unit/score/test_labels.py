"""What the runs of a table are called."""

import pytest

from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score.labels import about, labels


def named(*caches, **settings):
    """The labels of runs, each a spec or a pair of a spec and settings, in their order."""
    asked = [each if isinstance(each, tuple) else (each, settings) for each in caches]
    runs = [make_run("digits-skip", cache, {"steps": 4, **more}) for cache, more in asked]
    told = labels(runs)
    return [told[run.key] for run in runs]


@pytest.mark.parametrize(
    ("cache", "expected"),
    [
        ("none", "no cache (n=1)"),
        ("skip-cache", "skip-cache n=2"),
        ("skip-cache(n=3,window=700-50)", "skip-cache n=3"),  # a column of its own
        ("skip-cache(n=2,branch=1)", "skip-cache n=2 branch=1"),
        ("first-block", "first-block threshold=0.05"),
        ("teacache(threshold=0.2,coefficients=1/2/3)", "teacache threshold=0.2"),
        ("fora(n=3,mlp=false)", "fora n=3 mlp=false"),
    ],
)
def test_what_is_no_default_is_told(cache, expected):
    assert named(cache) == [expected]


def test_fewer_steps_are_told_of_their_run_alone():
    fewer = ("none", {"steps": 3, "reference_steps": "4"})
    assert named("none", "skip-cache", fewer) == [
        "no cache (n=1)",
        "skip-cache n=2",
        "no cache, 3 steps",
    ]
    runs = [
        make_run("digits-skip", cache, {"steps": 4, **more})
        for cache, more in (("none", {}), fewer)
    ]
    assert "ddim 4" in about(runs)
    of_others = ("none", {"steps": 3, "reference_steps": "8"})
    told = named("none", of_others, ("none", {"steps": 8}))
    assert told == [
        "no cache (n=1) steps=4",
        "no cache, 3 steps against 8 steps",
        "no cache (n=1) steps=8",
    ]


def test_what_differs_between_runs_of_one_interval_is_told_of_all_of_them():
    assert named("skip-cache(n=2)", "skip-cache(n=2,branch=1)", "skip-cache(n=3)") == [
        "skip-cache n=2 branch=2",
        "skip-cache n=2 branch=1",
        "skip-cache n=3",
    ]


def test_what_follows_from_the_interval_is_not_told():
    (label,) = named("pab(n=2)")
    assert label == "pab n=2"


def test_settings_of_generation_that_differ_are_told_of_every_run():
    told = named(("fora(n=2)", {"seed": 1}), ("fora(n=2)", {"seed": 2}), ("none", {"seed": 1}))
    assert told == ["fora n=2 seed=1", "fora n=2 seed=2", "no cache (n=1) seed=1"]
    told = named(("fora(n=2)", {"seeds": "0..3"}), ("fora(n=2)", {"seed": 2}))
    assert told == ["fora n=2 seed=0..3", "fora n=2 seed=2"]
    told = named(("none", {"guidance": 2.0}), ("none", {"guidance": None}))
    assert told == ["no cache (n=1) guidance=2.0", "no cache (n=1) guidance=none"]
    told = named(("none", {"classes": (1, 2, 3)}), ("none", {"classes": None}))
    assert told == ["no cache (n=1) classes=1 and 2 more", "no cache (n=1) classes=none"]


def test_more_samples_are_no_other_run():
    assert named(("none", {"num_samples": 4}), ("none", {"num_samples": 8})) == [
        "no cache (n=1)",
        "no cache (n=1)",
    ]


def test_what_all_runs_have_in_common():
    def said(*settings):
        return about([make_run("digits-skip", "none", {"steps": 4, **each}) for each in settings])

    assert said({}) == "16 samples, ddim 4, guidance 2, seed 0"
    assert said({"steps": "ddim4"}) == said({})
    assert said({"num_samples": 2}) == "2 samples, ddim 4, guidance 2, seed 0"
    assert said({"classes": (1, 2), "seeds": "0..2"}) == (
        "6 samples, ddim 4, guidance 2, seeds 0..2, classes 1 and 1 more"
    )
    assert said({"seed": 1, "precision": "bfloat16", "classes": (1, 2)}) == (
        "16 samples, ddim 4, guidance 2, seed 1, classes 1 and 1 more, precision bfloat16"
    )
    assert said({"guidance": None, "batch_size": 8, "compile": True}) == (
        "16 samples, ddim 4, seed 0, batch size 8, compiled"
    )
    assert said({}, {"seed": 1, "num_samples": 4}) == "ddim 4, guidance 2"
    assert said({}, {"sampler": "ddpm"}) == "16 samples, guidance 2, seed 0"
