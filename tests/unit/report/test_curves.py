"""Error over timesteps: what is drawn, against pixels worked out by hand, and what JSON has."""

import numpy as np
import pytest

from skipdit_cli.plan import plan
from skipdit_cli.recipe import runs
from skipdit_cli.report import curves
from skipdit_cli.report.curves import LINE, RunCurve, chart
from skipdit_cli.report.gallery import Behind
from skipdit_cli.report.page import to_html
from skipdit_cli.report.publish import records
from skipdit_cli.report.sweep import build_sweep_table
from skipdit_cli.score.sweep import SweepRow
from skipdit_cli.storage import trajectory
from skipdit_cli.storage.store import open_store


def run(cache="none", **settings):
    return runs.make_run("digits-skip", cache, {"num_samples": 2, "steps": 2, **settings})


def table(runs):
    return build_sweep_table(
        [SweepRow(str(r.cache).partition(",")[0], r, plan.plan(r), {}, "") for r in runs]
    )


@pytest.fixture
def recorded(tmp_path):
    """Two references, each with a run of which a norm of 10 is off by 0, then by 5."""
    runs = [run(cache, seed=seed) for seed in (0, 1) for cache in ("none", "skip-cache(n=2)")]
    for each in runs:
        off = 0 if each.is_reference else 5
        latents = np.array([[[10, 0], [10, off]]] * 3, np.float32)
        open_store(tmp_path, each).put(*trajectory.file(each, latents))
    return runs, Behind(tmp_path, runs)


def test_every_reference_has_its_runs(recorded):
    runs, behind = recorded
    found = curves.curves(table(runs), behind)
    assert [title for title, _ in found] == [
        "digits-skip, ddim 2, guidance 2, seed 0",
        "digits-skip, ddim 2, guidance 2, seed 1",
    ]
    ((first,), (second,)) = (group for _, group in found)
    assert (first.run, second.run) == (runs[1].key, runs[3].key)
    assert first.points == ((999, 0.0), (0, 0.5))
    assert first.samples == 3


def test_json_has_the_numbers(recorded):
    runs, behind = recorded
    reference, cached, *_ = records(table(runs), behind)
    assert reference["trajectories"] == []
    errors = [{"timestep": 999, "error": 0.0}, {"timestep": 0, "error": 0.5}]
    assert cached["trajectories"] == [{"run": runs[1].key, "errors": errors}]
    assert "trajectories" not in records(table(runs))[1]


def test_the_page_has_a_chart_for_every_reference(recorded, tmp_path):
    runs, behind = recorded
    text = to_html(table(runs), behind)
    assert text.count('<svg class="plot errors"') == 2
    assert "none down to timestep 999, then at most 0.5; 0.5 after the last step" in text
    empty = to_html(table(runs), Behind(tmp_path / "empty", runs))
    assert "No run here was made with a cache and without" in empty


def test_a_chart_by_hand():
    """Two decades over 316 pixels of height, 1000 timesteps over 606 of width; the second curve has
    a gap where it has no error."""
    one = RunCurve("one", "", ((1000, 0.001), (500, 0.01), (0, 0.1)), 4)
    two = RunCurve("two <&>", "", ((1000, 0.1), (500, 0.0), (0, 0.01)), 4)
    drawn = chart([one, two])
    assert '<path d="M64.0 332.0L367.0 174.0L670.0 16.0" ' in drawn
    assert '<path d="M64.0 16.0M670.0 174.0" ' in drawn
    for tick in ("0.001", "0.01", "0.1", "1000", "0", "two &lt;&amp;&gt;"):
        assert f">{tick}</text>" in drawn


def test_curves_without_error():
    none = RunCurve("n=1", "", ((1000, 0.0), (0, 0.0)), 4)
    assert "No run here differs from the uncached one" in chart([none])
    drawn = chart([none, RunCurve("n=2", "", ((1000, 0.0), (0, 0.1)), 4)])
    assert "n=1: none down to timestep 0; 0 after the last step, mean of 4 samples" in drawn


def test_labels_keep_apart_and_in_order():
    found = curves._apart([100, 101, 20, 330, 331], low=20, high=332)
    assert found == [100, 115, 20, 317, 332]
    crowded = curves._apart([50.0] * 40, low=20, high=332)
    assert sorted(crowded) == crowded
    assert min(crowded) >= 20
    assert max(crowded) <= 332
    assert np.diff(crowded).min() > LINE / 2
