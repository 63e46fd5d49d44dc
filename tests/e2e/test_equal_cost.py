"""Methods at equal cost: grids of settings, windows that are told, settings of a given cost."""

import json
import re

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


@pytest.mark.slow
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
    maps = [path for path in content["files"] if "-heat-" in path]
    assert [path.rpartition("-")[2] for path in maps] == [
        *("ideal.png", "psnr.png", "ssim.png", "digits.png")
    ]


DIFFER = "Windows differ, so that the same n does not save the same: "


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


@pytest.mark.slow
def test_settings_of_a_given_speedup_can_be_pasted(skipdit, table):
    """The nearest of every method first; what `plan` says of the spec alone is the same."""
    plan = "plan --model digits-skip"
    shown = skipdit(f"{plan} --target-speedup 1.5").ok().out
    _, *lines = table(shown)
    first = {line["run"].split("(")[0]: line for line in reversed(lines)}
    assert {"skip-cache", "fora", "delta-dit", "mag-cache", "faster-cache"} < first.keys()
    assert all(1.47 <= float(line["ideal speedup"]) <= 1.53 for line in lines)
    assert len({line["window"] for line in lines if line["run"].startswith("skip-cache")}) == 4
    said = shown.splitlines()
    assert any(line.startswith("nearest to 1.5x by counting: ") for line in said)
    assert "skip-cache by n, window, branch" in shown
    (left_out,) = (line for line in said if line.startswith("left out: "))
    for name in ("first-block", "teacache"):
        assert (
            f"{name} decides while it runs, and `skipdit profile --model digits-skip "
            f"--method {name}` with --target-speedup 1.5 finds its threshold"
        ) in left_out
    assert "t-gate needs attention to text and dit has none" in left_out
    pasted = [word for line in first.values() for word in ("--cache", line["run"])]
    _, *again = table(skipdit(*plan.split(), *pasted).ok().out)
    assert [line["ideal speedup"] for line in again] == [
        line["ideal speedup"] for line in first.values()
    ]


def test_n_and_window_are_held_where_they_are_given(skipdit):
    held = "--method skip-cache,fora,taylorseer --n 2..4 --window 700-50"
    shown = skipdit(f"plan --model digits-skip --target-macs 70% {held} --json").ok().out
    found = json.loads(shown)["target"]
    assert (found["value"], found["of"]) == (0.7, "macs")
    assert [each["method"] for each in found["found"]] == ["skip-cache", "fora"]
    assert all("window=700-50" in each["spec"] for each in found["found"])
    assert found["left_out"] == {"taylorseer": "taylorseer has no setting window"}
    rows = json.loads(shown)["rows"]
    shares = [row["macs_paper"] / rows[0]["macs_paper"] for row in rows[1:]]
    assert shares == [pytest.approx(each["reached"]) for each in found["found"]]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["profile", "cache-sweep --num-samples 1 --results"])
def test_the_nearest_of_every_method_are_run(skipdit, table, tmp_path, command):
    how = "--model digits-skip --steps 6 --repeats 1 --target-speedup 1.5 --method skip-cache,fora"
    where = [tmp_path] if "results" in command else []
    done = skipdit(*command.split(), *where, *how.split()).ok()
    _, *lines = table(done.out)
    assert [line["cache"].split()[0] for line in lines] == ["skip-cache", "fora"]
    assert all(1.3 < float(line["ideal speedup"]) < 1.7 for line in lines)
    told = [line for line in done.err.splitlines() if line.startswith("target: ")]
    assert told[0].startswith("target: skip-cache(")
    assert " comes to 1." in told[0]
    assert "; in other windows: " in told[1]
    assert told[2] == (
        "target: nearest to 1.5x by counting: skip-cache by n, window, branch; fora by n, window"
    )


def test_a_threshold_is_found_by_running_a_batch(skipdit, table, tmp_path):
    """What was tried is kept: the search is not made again, and `plan` knows of it."""
    how = "--model digits --steps 8 --batch-size 2 --target-speedup 1.3 --method first-block"
    root = ("--results", tmp_path)
    skipdit(f"plan {how} --num-samples 2", *root).failed(
        2, "first-block decides while it runs, and `skipdit profile --model digits"
    )
    done = skipdit(f"profile {how} --repeats 1", *root).ok()
    _, line = table(done.out)
    tried = re.findall(r"^trying (\S+) on digits$", done.err, re.MULTILINE)
    assert len(tried) > 1
    again = skipdit(f"profile {how} --repeats 1", *root).ok()
    assert "trying" not in again.err
    caches = [word for spec in tried for word in ("--cache", spec)]
    plan = "plan --model digits --steps 8 --batch-size 2 --num-samples 2"
    _, *lines = table(skipdit(*plan.split(), *caches, *root).ok().out)
    reached = {each["run"]: float(each["ideal speedup"]) for each in lines}
    best = min(reached, key=lambda spec: abs(reached[spec] - 1.3))
    assert f"target: {best} comes to {reached[best]:.4g}x" in done.err
    assert line["cache"] == best.replace("(", " ").rstrip(")")
    assert line["ideal speedup"] == f"{reached[best]:.2f}"
    assert "nearest to 1.3x by running a batch: first-block by threshold" in done.err
    # The samples of a run begin with the batch that was tried.
    sampled = skipdit(f"cache-sweep {how} --num-samples 2 --repeats 0 --metrics psnr", *root).ok()
    assert "trying" not in sampled.err
    _, row = table(sampled.out)
    assert (row["full"], row["cached"]) == (line["full"], line["cached"])


def test_a_speedup_out_of_reach_is_told(skipdit, table):
    shown = skipdit("plan --model digits --target-speedup 40 --method fora,pab").ok().out
    assert "not within 2 %: fora (" in shown
    assert "; pab (9" in shown


def test_mistakes_in_a_target_are_one_line(skipdit):
    for command, parts in {
        "plan --model digits --target-speedup 0.5": ("--target-speedup: '0.5' is not a speedup",),
        "profile --model digits --target-macs 60": ("--target-macs: '60' is not a share", "60%"),
        "cache-sweep --model digits --target-macs 60% --target-speedup 2": ("say the same",),
        "plan --model digits --target-speedup 2 --method teacache": (
            "--target-speedup: nothing comes near 2x (teacache decides while it runs",
        ),
        "profile --model digits --target-speedup 2 --method teacache --weights random": (
            "what teacache reuses depends on the weights, which are random",
        ),
        "plan --model digits --target-speedup 2 --method foar": ("did you mean 'fora'?",),
        "plan --model digits --target-speedup 2 --n 4..2": ("--n: range '4..2' runs backwards",),
        "plan smoke --target-speedup 2": ("--target-speedup cannot be combined with a recipe",),
        "cache-sweep smoke --target-macs 60%": ("--target-macs cannot be combined",),
        "profile --calibrate --target-speedup 2": ("--target-speedup changes nothing of",),
    }.items():
        skipdit(command).failed(2, *parts)
