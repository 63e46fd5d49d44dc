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


def test_similarity_of_several_caches_each_on_the_models_that_it_has_a_meaning_on(skipdit, table):
    caches = ("--cache", "skip-cache(n=2..3)", "--cache", "none")
    done = skipdit(f"analyze similarity --model digits {SMALL}").ok()  # what fits, if none is said
    assert [line["cache"] for line in table(done.out)] == ["fora(n=2,mlp=true)"]
    done = skipdit(f"analyze similarity --model digits --model digits-skip {SMALL}", *caches).ok()
    lines = table(done.out)
    assert [(line["model"], line["cache"].partition(",")[0]) for line in lines] == [
        ("digits", "none"),
        *(("digits-skip", name) for name in ("skip-cache(n=2", "skip-cache(n=3", "none")),
    ]
    exact = [float(line["sample error"]) == 0 for line in lines]
    assert exact == [True, False, False, True]


def test_sensitivity(skipdit, table):
    command = f"analyze sensitivity --model digits {SMALL} --layers 2 --every 2"
    (line,) = table(skipdit(command).ok().out)
    assert float(line["least"]) <= float(line["mean"]) <= float(line["most"]) < 0
    found = json.loads(skipdit(command, "--json").out)
    assert found["settings"] | {"layers": [0, 5], "every": 2, "num_samples": 2} == found["settings"]


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("dynamics --model digits --layer 9", ("--layer", "digits has no layer 9", "0 to 5")),
        ("dynamics --layer x", ("--layer", "x")),
        ("dynamics --model digits --steps 1", ("--steps", "there is one")),
        ("dynamics --model digits --cache skip-cache(n=2)", ("digits", "skip")),
        ("similarity --model digits --cache skip-cache(n=2)", ("digits", "skip")),
        ("similarity --cache fora(m=2)", ("--cache", "m")),
        ("sensitivity --layers 0", ("--layers 0", "take 1 to")),
        ("sensitivity --every 0", ("--every", "0")),
    ],
)
def test_mistakes_are_one_line(skipdit, command, parts):
    skipdit("analyze", *command.split(), "--num-samples", "2").failed(2, *parts)


@pytest.mark.slow
def test_a_model_of_full_size_drawn_at_random(skipdit):
    done = skipdit(f"analyze dynamics {FULL}")
    assert done.code == 0, done
    assert "random weights: a dry run" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("command", ["similarity", "sensitivity --layers 1"])
def test_a_wide_model_drawn_at_random(skipdit, wide, command):
    done = skipdit(f"analyze {command} {wide} --steps 2")
    assert done.code == 0, done
    assert "random weights: a dry run" in done.err
