"""analyze dynamics, similarity, sensitivity: what they print, leave behind and refuse."""

import json

import pytest

SMALL = "--steps 4 --num-samples 2 --batch-size 2"
FULL = "--model dit-xl-2-skip --weights random --num-samples 1 --steps 2"


def test_dynamics_of_two_models(skipdit, tmp_path, table):
    done = skipdit(f"analyze dynamics --model digits --model digits-skip {SMALL} --layer 1").ok()
    lines = table(done.out)
    assert [(line["model"], line["half"]) for line in lines] == [
        *(("digits", "conditional"), ("digits", "null")),
        *(("digits-skip", "conditional"), ("digits-skip", "null")),
    ]
    at = tmp_path / "results" / "analysis" / "digits+digits-skip"
    names = ["dynamics.csv", "dynamics.json", *(f"dynamics-{i}.png" for i in range(1, 8))]
    assert sorted(path.name for path in at.iterdir()) == sorted(names)
    panels = json.loads((at / "dynamics.json").read_text())["panels"]
    assert [*panels[4]["marks"]] == ["skip-cache(n=2,window=1000-20,branch=2)"]
    assert "/tmp" not in (at / "dynamics.json").read_text()


def test_similarity_of_several_caches(skipdit, table):
    caches = ("--cache", "skip-cache(n=2..3)", "--cache", "none")
    done = skipdit(f"analyze similarity --model digits-skip {SMALL}", *caches).ok()
    lines = table(done.out)
    assert [line["cache"].partition(",")[0] for line in lines] == [
        *("skip-cache(n=2", "skip-cache(n=3", "none")
    ]
    assert [float(line["feature similarity"]) == 1 for line in lines] == [False, False, True]
    found = json.loads(skipdit("analyze similarity", *SMALL.split(), "--json").out)
    assert found["models"] == ["moving-digits-skip"]
    assert found["settings"]["caches"] == ["skip-cache(n=2,window=900-50,branch=1)"]
    assert found["settings"]["num_samples"] == 2


def test_sensitivity(skipdit, table):
    done = skipdit(f"analyze sensitivity --model digits {SMALL} --layers 2 --every 2").ok()
    (line,) = table(done.out)
    assert float(line["least"]) <= float(line["mean"]) <= float(line["most"]) < 0


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("dynamics --model digits --layer 9", ("--layer", "digits has no layer 9", "0 to 5")),
        ("dynamics --layer x", ("--layer", "x")),
        ("dynamics --model digits --steps 1", ("--steps", "there is one")),
        ("dynamics --model digits --cache skip-cache(n=2)", ("digits", "skip")),
        ("similarity --model digits", ("--cache", "nothing is compared without a cache")),
        ("similarity --cache fora(m=2)", ("--cache", "m")),
        ("sensitivity --layers 0", ("--layers 0", "take 1 to")),
        ("sensitivity --every 0", ("--every", "0")),
    ],
)
def test_mistakes_are_one_line(skipdit, command, parts):
    skipdit("analyze", *command.split(), "--num-samples", "2").failed(2, *parts)


def test_a_cache_is_left_out_of_models_that_it_has_no_meaning_on(skipdit):
    models = "--model digits --model digits-skip"
    command = f"analyze similarity {models} {SMALL} --json"
    found = json.loads(skipdit(command, "--cache", "skip-cache(n=2)", "--cache", "fora(n=2)").out)
    assert [(line["model"], line["cache"][:4]) for line in found["summary"]] == [
        *(("digits", "fora"), ("digits-skip", "skip"), ("digits-skip", "fora"))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["dynamics", "similarity", "sensitivity --layers 1"])
def test_a_model_of_full_size_drawn_at_random(skipdit, command):
    done = skipdit(f"analyze {command} {FULL}")
    assert done.code == 0, done
    assert "random weights: a dry run" in done.err
