"""Own prompts with seeds and names, and several seeds of each, as a user gives them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from skipdit_cli.recipe.runs import find_run
from skipdit_cli.storage.store import open_store

DIGITS = "sample --model digits --steps 3 --json --classes"
PAINTED = "sample --model painted-digits --steps ddim3+1 --json --prompts"
LIST = "prompt,seed,name\na three,7,first\na seven,3,sec/ond\n"


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(LIST)
    return path


def stored(done):
    content = json.loads(done.ok().out)
    folder = Path(content["folder"])
    return open_store(folder.parents[1], find_run(folder.parents[1], content["key"]))


def near(one, other):
    """A batch of another size rounds otherwise."""
    return np.abs(one.astype(int) - other.astype(int)).max() <= 1


def test_the_sample_of_a_seed_is_that_of_the_seed_alone(skipdit):
    """Class 8 with seed 3 is the second of the three of class 8, and the first of seed 3."""
    crossed = stored(skipdit(f"{DIGITS} 5,8 --seeds 2..4"))
    assert crossed.run.num_samples == crossed.count() == 6
    assert [crossed.meta(i)["class"] for i in range(6)] == [5, 5, 5, 8, 8, 8]
    alone = stored(skipdit(f"{DIGITS} 8 --seed 3 --num-samples 1"))
    same = [near(crossed.read(i), alone.read(0)) for i in range(6)]
    assert same == [False, False, False, False, True, False]


@pytest.mark.slow
def test_own_prompts_have_their_seeds_and_names(skipdit, listed, table):
    store = stored(skipdit(PAINTED, listed))
    assert [store.meta(i) for i in range(store.run.num_samples)] == [
        {"prompt": "a three", "name": "first"},
        {"prompt": "a seven", "name": "sec/ond"},
    ]
    alone = stored(skipdit(f"{PAINTED[:-10]} --seed 3 --num-samples 1 --prompt", "a seven"))
    assert near(store.read(1), alone.read(0))
    assert not near(store.read(0), alone.read(0))

    skipdit(f"export {store.run.key} --out given --name", "{index}-{name}").ok()
    with open("given/manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["0-first.png", "1-sec-ond.png"]
    assert [(row["seed"], row["name"], row["prompt"]) for row in rows] == [
        ("7", "first", "a three"),
        ("3", "sec/ond", "a seven"),
    ]
    settings = {
        line["setting"]: line["value"] for line in table(skipdit(f"show {store.run.key}").ok().out)
    }
    assert (settings["seeds"], settings["names"]) == ("7; 3", "first; sec/ond")
    assert "seed" not in settings

    written = store.file(0).stat().st_mtime_ns
    listed.write_text(LIST.replace("first", "other"))
    again = stored(skipdit(PAINTED, listed))
    assert again.run.key == store.run.key
    assert again.file(0).stat().st_mtime_ns == written  # another name makes no other sample
    assert again.meta(0) == {"prompt": "a three", "name": "other"}
    assert again.run.names == ("other", "sec/ond")


def test_a_study_is_planned_with_its_samples(skipdit, listed):
    plan = "plan --model painted-digits --json"
    run = json.loads(skipdit(plan, "--prompts", listed).ok().out)["rows"][0]["run"]
    assert (run["num_samples"], run["seeds"]) == (2, [7, 3])
    run = json.loads(skipdit(plan, "--seeds", "0..4").ok().out)["rows"][0]["run"]
    assert run["num_samples"] == 5 * 30
    run = json.loads(skipdit("plan --model digits --classes 1,2 --seeds 0..4 --json").ok().out)
    assert run["rows"][0]["run"]["num_samples"] == 10


@pytest.mark.slow
def test_a_sweep_over_seeds_compares_samples_of_the_same_seed(skipdit):
    sweep = "cache-sweep --model digits --steps 3 --repeats 0 --classes 1,2 --method fora --n"
    done = skipdit(f"{sweep} 2..3 --seeds 0..1").ok()
    assert "4 samples, ddim 3, guidance 2, seeds 0..1" in done.out
    skipdit(f"{sweep} 2 --num-samples 4").ok()
    keys = {}
    for path in Path("results/samples").glob("*/run.json"):
        run = json.loads(path.read_text())["run"]
        keys[run["cache"].partition(",")[0], "seeds" in run] = path.parent.name
    pair = keys["fora(n=2", True], keys["fora(n=3", True]
    compared = json.loads(skipdit("compare", *pair, "--metric", "psnr", "--json").ok().out)
    assert compared[0]["difference"]["n"] == 4
    differ = keys["fora(n=2", True], keys["fora(n=2", False]
    skipdit("compare", *differ, "--metric", "psnr").failed(2, "do not pair: their seeds differ")


def test_mistakes_in_seeds_are_one_line(skipdit, listed):
    for words, part in {
        ("sample --model digits --seed 1 --seeds 0..4",): "--seed and --seeds say the same",
        ("cache-sweep table1 --seed 1 --seeds 0..4",): "--seed and --seeds say the same",
        ("sample --model digits --seeds 4..0",): "--seeds: range '4..0' runs backwards",
        ("plan --model digits --seeds many",): "--seeds: cannot read range 'many'",
        ("cache-sweep --model painted-digits --seeds 0..4 --prompts", listed): (
            "seeds and the seeds of the prompts say the same"
        ),
        ("plan --model digits --set seeds=1",): "--set is for recipes",
        ("plan table1 --classes 3",): "--classes cannot be combined with a recipe",
    }.items():
        skipdit(*words).failed(2, part)
