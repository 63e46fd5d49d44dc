"""Methods at equal cost: grids of settings, and windows that are told."""

import json

import pytest

GRID = "skip-cache(n=2..3,window=700-50|1000-0,branch=1..2)"
FEW = "--steps 6 --num-samples 2 --batch-size 2"


def test_a_grid_is_every_cache_of_it_in_the_order_written(skipdit, table):
    shown = table(skipdit(f"plan --model digits-skip --cache {GRID}").ok().out)
    assert [line["run"] for line in shown] == [
        "none",
        *(
            f"skip-cache(n={n},window={window},branch={branch})"
            for n in (2, 3)
            for window in ("700-50", "1000-0")
            for branch in (1, 2)
        ),
    ]


def test_a_cache_that_is_asked_for_twice_is_planned_once(skipdit, table):
    """Written in full, by its defaults, in a grid and by --n: one run."""
    twice = "--cache none --cache fora --cache fora(n=3..4|3,mlp=true) --method fora --n 3"
    shown = table(skipdit(f"plan --model digits {twice}").ok().out)
    assert [line["run"] for line in shown] == ["none", "fora(n=3,mlp=true)", "fora(n=4,mlp=true)"]


def test_mistakes_in_a_grid_are_one_line(skipdit):
    for command, parts in {
        "sample --model digits --cache fora(n=2..4)": (
            "--cache: 'fora(n=2..4)' is 3 caches, and one is wanted",
            "as fora(n=2)",
        ),
        "plan --model digits --cache fora(n=2..2000)": ("is 1999 caches, and 1000 is the most",),
        "profile --model digits --cache fora(n=4..2)": ("--cache n: range '4..2' runs backwards",),
        "cache-sweep --model digits --cache fora(n=2|)": ("an alternative of '2|' is empty",),
        "plan --model digits-skip --cache skip-cache(n=2,branch=1..9)": (
            "skip-cache(n=2,branch=3) on digits-skip: branch=3 leaves no layer",
        ),
    }.items():
        skipdit(command).failed(2, *parts)


def test_a_recipe_s_row_is_one_cache(skipdit, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "title: own\nscales:\n  tiny:\n    groups: {digits: digits}\n"
        "    settings: {num_samples: 2, sampler: ddim, steps: '4'}\n"
        "    columns: [{label: PSNR, metric: psnr, group: digits}]\n"
        "rows:\n  - {id: a, label: A, model: '{model}', cache: 'fora(n=2..3)'}\n"
    )
    skipdit("plan", str(path)).failed(2, "rows[0].cache: 'fora(n=2..3)' is 2 caches")


def test_a_sweep_of_a_grid(skipdit, tmp_path):
    grid = "skip-cache(n=2..3,branch=1..2)"
    sweep = f"cache-sweep --model digits-skip --cache {grid} {FEW} --repeats 0 --json"
    content = json.loads(skipdit(sweep, "--results", tmp_path).ok().out)
    assert [row["cache"] for row in content["rows"]] == [
        "no cache (n=1)",
        "skip-cache n=2 branch=1",
        "skip-cache n=2 branch=2",
        "skip-cache n=3 branch=1",
        "skip-cache n=3 branch=2",
    ]


DIFFER = "Windows differ, and with them what the same n saves: "


@pytest.mark.parametrize(
    ("command", "column", "windows", "note"),
    [
        (
            "plan --method skip-cache,fora,pab --n 3",
            "run",
            ["", "1000-20", "whole", "800-100"],
            f"{DIFFER}1000-20 of skip-cache; whole of fora; 800-100 of pab.",
        ),
        (
            "plan --method skip-cache,fora --n 3 --window 700-50",
            "run",
            ["", "700-50", "700-50"],
            "",
        ),
        (
            "profile --steps 2 --repeats 1 --method fora --n 2 --cache fora(n=2,window=700-50)",
            "cache",
            ["", "700-50", "whole"],
            f"{DIFFER}700-50 of fora; whole of fora.",
        ),
    ],
)
def test_windows_are_shown_and_a_note_tells_where_they_differ(
    skipdit, table, command, column, windows, note
):
    shown = skipdit(f"{command} --model digits-skip").ok().out
    lines = table(shown)
    assert [line["window"] for line in lines] == windows
    assert lines[0][column].startswith("no")
    assert (note in shown) if note else (DIFFER not in shown)
