"""Seeds: of a column, of `seeds`, or the one of a run; and what they are to noise and key."""

from dataclasses import replace

import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.generate import conditioning, rng
from skipdit_cli.recipe import recipe
from skipdit_cli.recipe.runs import from_dict, make_run, of_recipe
from skipdit_cli.storage.store import open_store, read_run

PAINTED, TEXTS = "painted-digits", ("a one", "a two")
LIST = "prompt,seed,name\na one,7,first\na two,3,second\na one,5,third\n"


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(LIST)
    return str(path)


def shown(run, count):
    """(what it shows, seed, index of the noise) of samples."""
    return [(*conditioning.meta(run, i).values(), *run.stream(i)) for i in range(count)]


def test_without_seeds_a_sample_has_the_one_of_the_run_and_its_index():
    run = make_run(PAINTED, settings={"prompts": TEXTS, "seed": 4})
    assert shown(run, 3) == [("a one", 4, 0), ("a two", 4, 1), ("a one", 4, 2)]
    assert (run.num_samples, run.seeded) == (16, "seed 4")


def test_seeds_are_crossed_with_prompts():
    run = make_run(PAINTED, settings={"prompts": TEXTS, "seeds": "5..6,9"})
    assert run.num_samples == 6
    one, two = ([(text, seed, 0) for seed in (5, 6, 9)] for text in TEXTS)
    assert shown(run, 6) == [*one, *two]
    assert shown(run, 8)[6:] == [("a one", 5, 1), ("a one", 6, 1)]  # a second turn has other noise
    assert run.seeded == "seeds 5, 6, 9"


def test_seeds_are_crossed_with_classes_given_or_drawn():
    run = make_run("digits", settings={"classes": (3, 8), "seeds": (1, 2)})
    assert shown(run, 4) == [(3, 1, 0), (3, 2, 0), (8, 1, 0), (8, 2, 0)]
    run = make_run("digits", settings={"seeds": "0..4"})
    assert run.num_samples == 5
    drawn = [rng.choice(10, seed=seed, index=0) for seed in range(5)]
    assert shown(run, 5) == [(drawn[seed], seed, 0) for seed in range(5)]
    assert len(set(drawn)) > 1


def test_prompts_have_the_seeds_and_names_of_their_file(listed):
    run = make_run(PAINTED, settings={"prompts": listed})
    assert run.num_samples == 3
    assert shown(run, 4) == [
        *(("a one", "first", 7, 0), ("a two", "second", 3, 0), ("a one", "third", 5, 0)),
        ("a one", "first", 7, 1),
    ]
    assert make_run(PAINTED, settings={"prompts": listed, "num_samples": 2}).num_samples == 2


def test_names_are_repeated_for_every_seed(tmp_path):
    (tmp_path / "named.csv").write_text("prompt,name\na one,A\na two,B\n")
    settings = {"prompts": str(tmp_path / "named.csv"), "seeds": "0..1"}
    run = make_run(PAINTED, settings=settings)
    assert [conditioning.meta(run, i)["name"] for i in range(4)] == ["A", "A", "B", "B"]


def test_what_is_crossed_by_hand_is_the_same_run(tmp_path):
    path = tmp_path / "by_hand.csv"
    path.write_text("prompt,seed\na one,0\na one,1\na two,0\na two,1\n")
    crossed = make_run(PAINTED, settings={"prompts": TEXTS, "seeds": "0..1"})
    assert make_run(PAINTED, settings={"prompts": str(path)}) == crossed


def test_seeds_are_in_the_key_where_they_are_given_and_names_never(listed):
    run = make_run(PAINTED, settings={"prompts": TEXTS})
    assert "seeds" not in run.to_dict()
    assert "names" not in run.to_dict()
    one = make_run(PAINTED, settings={"prompts": TEXTS, "seeds": "0..1"})
    other = make_run(PAINTED, settings={"prompts": TEXTS, "seeds": "0,2"})
    assert len({run.key, one.key, other.key}) == 3
    named = make_run(PAINTED, settings={"prompts": listed})
    assert named.to_dict()["names"] == ["first", "second", "third"]
    assert replace(named, names=None).key == replace(named, num_samples=1).key == named.key


def test_a_run_on_disk_has_them_back(listed):
    for settings in ({"prompts": listed}, {"prompts": TEXTS, "seeds": "0..1"}):
        run = make_run(PAINTED, settings=settings)
        assert from_dict(run.to_dict()) == run
        assert from_dict(run.to_dict()).key == run.key


def test_names_stay_on_disk_until_there_are_others(listed, tmp_path):
    named = make_run(PAINTED, settings={"prompts": listed})
    for names, kept in ((named.names, named.names), (None, named.names), (("x",) * 3, ("x",) * 3)):
        with open_store(tmp_path, replace(named, names=names)).lock():
            assert read_run(tmp_path, named.key)["run"]["names"] == list(kept)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"seeds": "0..1", "prompts": LIST}, "seeds and the seeds of the prompts say the same"),
        ({"seed": 0, "prompts": LIST}, "seed and the seeds of the prompts say the same"),
        ({"seed": 0, "seeds": "0..1"}, "seed and seeds say the same; leave one of them out"),
        ({"seeds": "4..2"}, "range '4..2' runs backwards"),
        ({"seeds": ""}, "cannot read range ''"),
        ({"seeds": "0..9999", "prompts": tuple("abcdefghij" * 11)}, "10000 seeds of 110 prompts"),
    ],
)
def test_mistakes(listed, settings, problem):
    if settings.get("prompts") == LIST:
        settings = settings | {"prompts": listed}
    with pytest.raises(UsageError) as caught:
        make_run(PAINTED, settings=settings, place="here")
    assert str(caught.value).startswith(f"here: {problem}")


def test_a_seed_that_is_named_twice_counts_once():
    assert make_run("digits", settings={"seeds": "3,1..3,1"}).seeds == (3, 1, 2)
    assert make_run("digits", settings={"seeds": [3, 1]}).seeds == (3, 1)
    assert make_run("digits", settings={"seeds": 3}).seeds == (3,)


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ("7", "seed 7"),
        ("0..4", "seeds 0..4"),
        ("4,2", "seeds 4, 2"),
        ("0,2,4,6,8,10,12", "seeds 0, 2, 4, 6, 8 and 2 more"),
    ],
)
def test_seeds_as_titles_tell_them(seeds, text):
    assert make_run("digits", settings={"seeds": seeds}).seeded == text


def test_fewer_samples_than_vbench_s_prompts_are_of_all_dimensions():
    few = make_run("latte", settings={"num_samples": 47})
    more = make_run("latte", settings={"num_samples": 943})
    assert few.key == more.key  # so that it goes on
    whole = make_run("latte", settings={"num_samples": 944})
    assert whole.key == make_run("latte", settings={"num_samples": 4720}).key != few.key
    assert set(whole.prompts) == set(few.prompts)
    # ten prompts with five seeds each
    crossed = make_run("latte", settings={"num_samples": 50, "seeds": "0..4"})
    assert crossed.prompts[:50:5] == few.prompts[:10]
    assert make_run("latte", settings={"num_samples": 1000, "seeds": "0..4"}).key == crossed.key
    assert make_run("latte", settings={"seeds": "0..4"}).prompts[::5] == whole.prompts


RECIPE = """\
title: own
scales:
  tiny:
    groups: {digits: digits}
    settings: {num_samples: 4, {SEED}, sampler: ddim, steps: '4'}
    columns: [{label: PSNR, metric: psnr, group: digits}]
rows:
  - {id: a, label: A, model: '{model}'}
  - {id: b, label: B, model: '{model}', settings: {ROW}}
"""


@pytest.mark.parametrize(
    ("whole", "row", "overrides", "first", "second"),
    [
        ("seeds: 0..1", "{}", (), (0, (0, 1)), (0, (0, 1))),
        ("seed: 3", "{seeds: [1, 2]}", (), (3, None), (0, (1, 2))),
        ("seeds: 0..1", "{seed: 3}", (), (0, (0, 1)), (3, None)),
        ("seed: 3", "{seed: 4}", ("seeds=5",), (0, (5,)), (0, (5,))),
        ("seed: 3", "{seeds: 0..1}", ("seed=5",), (5, None), (5, None)),
    ],
)
def test_a_seed_and_seeds_take_the_place_of_one_another_in_recipes(
    tmp_path, whole, row, overrides, first, second
):
    path = tmp_path / "own.yaml"
    path.write_text(RECIPE.replace("{SEED}", whole).replace("{ROW}", row))
    runs = [run for *_, run in of_recipe(recipe.load_recipe(str(path), overrides=overrides))]
    assert [(run.seed, run.seeds) for run in runs] == [first, second]
    assert all(run.num_samples == 4 for run in runs)


def test_a_list_with_seeds_takes_the_place_of_a_recipe_s_seed(listed):
    chosen = recipe.load_recipe("table4", overrides=[f"prompts={listed}", "num_samples=3"])
    assert {run.seeds for *_, run in of_recipe(chosen)} == {(7, 3, 5)}
    chosen = recipe.load_recipe("table4", overrides=[f"prompts={listed}", "seed=3"])
    with pytest.raises(UsageError, match="seed and the seeds of the prompts say the same"):
        of_recipe(chosen)
