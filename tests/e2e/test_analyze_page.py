"""`skipdit analyze MODEL`: all analyses and one page of them."""

import re
from pathlib import Path

import pytest

from skipdit_cli.storage.analysis import Analysis, Map, read_analysis, write_analysis

KINDS = ("smoothness", "dynamics", "similarity", "spectra", "sensitivity")
BOTH = ("digits", "digits-skip")


def written(root, kind, models):
    found = Analysis(
        kind=kind,
        models=models,
        settings={"steps": "50"},
        panels=(
            Map(
                title=f"map of {kind}",
                down="layer",
                across="step",
                rows=("0",),
                columns=("1", "2"),
                values=((0.5, 1.0),),
                measure="similarity",
            ),
        ),
        summary=({"model": models[0], "mean": 0.5},),
        provenance={"time": "2026-01-01T00:00:00+00:00", "command": f"skipdit analyze {kind}"},
    )
    write_analysis(root, found)


@pytest.mark.parametrize("command", ["analyze digits-skip", "analyze page digits digits-skip"])
def test_what_is_on_disk_is_put_together(skipdit, tmp_path, command):
    """A skip model has the one without skip branches beside it."""
    for kind in KINDS:
        written(tmp_path / "results", kind, BOTH)
    done = skipdit(command)
    assert done.code == 0, done
    for kind in KINDS:
        assert f"{kind}: as of 2026-01-01" in done.err
    page = (tmp_path / "results/analysis/digits+digits-skip/analysis.html").read_text()
    titles = re.findall(r"<h2[^>]*>([^<]*)</h2>", page)
    assert titles == [*(kind.capitalize() for kind in KINDS), "How this was made"]
    assert all(f"map of {kind}" in page and f"skipdit analyze {kind}" in page for kind in KINDS)


@pytest.mark.slow
def test_what_is_not_there_is_made(skipdit, tmp_path):
    """By the commands' own defaults, but for what is said."""
    root = tmp_path / "results"
    for kind in {*KINDS} - {"dynamics"}:
        written(root, kind, BOTH)
    done = skipdit("analyze digits-skip --num-samples 1 --steps 3 --seed 5")
    assert done.code == 0, done
    found = read_analysis(root, "dynamics", BOTH)
    assert found.settings["num_samples"] == 1
    assert found.settings["steps"] == "3"
    assert found.settings["seed"] == 5
    again = skipdit("analyze digits-skip")
    assert "dynamics: as of" in again.err
    assert "spectra: as of 2026-01-01" in again.err
    for kind in KINDS:
        written(root, kind, BOTH[:1])
    made = skipdit("analyze page digits --redo --num-samples 1 --steps 2")
    assert made.code == 0, made
    for kind in KINDS:
        assert read_analysis(root, kind, BOTH[:1]).panels[0].title != f"map of {kind}"


def test_mistakes_are_one_line(skipdit):
    skipdit("analyze digitz").failed(2, "unknown model 'digitz'")
    skipdit("analyze digits digits").failed(2, "digits is named twice")
    for kind in KINDS:  # before all the work
        skipdit(f"analyze {kind} --model digits --width column").failed(2, "--width", "--figure")
        assert not Path("results/analysis").exists()


def test_alone_it_says_what_there_is(skipdit):
    done = skipdit("analyze")
    assert (done.code, done.err) == (0, "")
    assert "`skipdit analyze MODEL` makes all of it" in done.out
    assert all(f"\n  {kind} " in done.out for kind in (*KINDS, "calibrate"))
