"""Rules of a gate, and what they make of two results folders."""

import json

import numpy as np
import pytest

from skipdit_cli import run as runs
from skipdit_cli.errors import IncompleteError, UsageError
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score.gate import Rule, broken, checks, parse_rule
from skipdit_cli.storage import results
from skipdit_cli.storage.results import Result
from skipdit_cli.storage.store import open_store

RUN = make_run("digits-skip", "skip-cache(n=2)", {"steps": 4, "num_samples": 3})


def put(root, metric, value, *, scores=None, run=RUN, unit="dB"):
    """Keep a number of a run, and its description."""
    results.write_result(
        root,
        Result(
            metric=metric,
            value=value,
            unit=unit,
            n=len(scores or ()),
            run=run.key,
            scores=scores,
        ),
    )
    open_store(root, run).write(0, np.zeros((16, 16, 3), np.uint8), meta={})


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("psnr >= -0.3 dB", Rule("psnr >= -0.3 dB", "psnr", True, -0.3, "dB")),
        ("latency<=+5%", Rule("latency<=+5%", "latency", False, 5.0, "%")),
        (" ssim >= -1e-3 ", Rule("ssim >= -1e-3", "ssim", True, -0.001)),
        ("latency <= 3 ms", Rule("latency <= 3 ms", "latency", False, 3.0, "ms")),
        ("fid@digits <= 0.5", Rule("fid@digits <= 0.5", "fid@digits", False, 0.5)),
    ],
)
def test_rules(text, rule):
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("psnr > 1", "cannot read rule 'psnr > 1'"),
        ("psnr >= much", "cannot read rule"),
        ("psnr", "cannot read rule"),
        ("pnsr >= 1", "unknown metric 'pnsr'; did you mean 'psnr'?"),
        ("psnr >= 1 s", "psnr has no unit s; take dB, %"),
        ("ssim >= 1 dB", "ssim has no unit dB; take %"),
        ("latency <= 5 m", "latency has no unit m; take s, ms, %"),
    ],
)
def test_what_is_no_rule(text, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        parse_rule(text)


def test_scores_are_compared_in_pairs(tmp_path):
    put(tmp_path / "a", "psnr", 30.0, scores=(29.0, 30.0, 31.0))
    put(tmp_path / "b", "psnr", 29.8, scores=(28.9, 29.7, 30.8))
    (check,) = checks(tmp_path / "a", tmp_path / "b", [parse_rule("psnr >= -0.3 dB")])
    assert check.change == pytest.approx(-0.2)
    assert (check.n, check.before, check.after) == (3, 30.0, 29.8)
    low, high = check.interval
    assert -0.3 - 1e-9 <= low < -0.2 < high <= -0.1 + 1e-9
    assert check.kept
    (check,) = broken(checks(tmp_path / "a", tmp_path / "b", [parse_rule("psnr >= -0.1")]))
    assert not check.kept
    assert json.loads(json.dumps(check.content))["change"] == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("rule", "change", "kept"),
    [
        ("latency <= +5 %", 4.0, True),
        ("latency <= +3 %", 4.0, False),
        ("latency <= 90 ms", 80.0, True),
        ("latency <= 0.07", 0.08, False),
        ("latency >= 0 s", 0.08, True),
    ],
)
def test_timings_by_their_share_or_unit(tmp_path, rule, change, kept):
    put(tmp_path / "a", "latency", 2.0, scores=(1.9, 2.0, 2.1), unit="s")
    put(tmp_path / "b", "latency", 2.08, scores=(2.0, 2.08, 2.1), unit="s")
    (check,) = checks(tmp_path / "a", tmp_path / "b", [parse_rule(rule)])
    assert check.change == pytest.approx(change)
    assert (check.kept, check.n, check.interval) == (kept, 0, None)


def test_a_number_that_is_gone_or_nowhere_is_no_pass(tmp_path):
    put(tmp_path / "a", "psnr", 30.0)
    put(tmp_path / "b", "ssim", 0.9, unit="")
    rules = [parse_rule("psnr >= -1")]
    with pytest.raises(IncompleteError, match=r"has no psnr in .*b, and has one in .*a"):
        checks(tmp_path / "a", tmp_path / "b", rules)
    with pytest.raises(IncompleteError, match="no run has lpips in both"):
        checks(tmp_path / "a", tmp_path / "b", [parse_rule("lpips <= 0")])
    put(tmp_path / "c", "fid@digits", 0.0, unit="")
    with pytest.raises(UsageError, match=r"fid@digits of 0, of which there is no share"):
        checks(tmp_path / "c", tmp_path / "c", [parse_rule("fid@digits <= 5 %")])


def test_a_run_made_by_other_code_is_the_same_run(tmp_path, monkeypatch):
    put(tmp_path / "a", "psnr", 30.0)
    monkeypatch.setattr(runs, "LOOP", runs.LOOP + 1)
    newer = make_run("digits-skip", "skip-cache(n=2)", {"steps": 4, "num_samples": 3})
    assert newer.key != RUN.key
    put(tmp_path / "b", "psnr", 30.5, run=newer)
    (check,) = checks(tmp_path / "a", tmp_path / "b", [parse_rule("psnr >= 0")])
    assert check.change == 0.5
