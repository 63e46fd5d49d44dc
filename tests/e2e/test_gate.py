"""gate: whether what was measured now may stand in for what was measured before."""

import json
import shutil
from xml.etree import ElementTree

import pytest

from skipdit_cli.storage import results

GATE = "gate --baseline old --candidate new"


@pytest.fixture
def old(swept, tmp_path):
    """none, n=2 and n=3 of digits-skip, three samples each, and a copy of it."""
    shutil.copytree(swept[0], tmp_path / "new")
    return shutil.copytree(swept[0], tmp_path / "old")


def lower(root, interval, by):
    """Lower every PSNR of a run."""
    for path in (root / "samples").glob("*/run.json"):
        if interval in json.loads(path.read_text())["run"]["cache"]:
            result = results.read_result(root, path.parent.name, "psnr")
            scores = tuple(score - by for score in result.scores)
            changed = vars(result) | {"scores": scores, "value": sum(scores) / len(scores)}
            results.write_result(root, type(result)(**changed))


def test_the_same_results_pass(skipdit, old, table):
    done = skipdit(GATE, "--rule", "psnr >= -0.3 dB", "--rule", "latency <= +5 %").ok()
    lines = table(done.out)
    assert [line["rule"] for line in lines] == ["psnr >= -0.3 dB"] * 2 + ["latency <= +5 %"] * 3
    assert {line["change"] for line in lines} == {"+0 dB", "+0 %"}
    assert {line["n"] for line in lines} == {"3", ""}


def test_what_is_worse_than_it_may_be_is_told(skipdit, old, table, tmp_path):
    lower(tmp_path / "new", "n=3", 0.5)
    rules = ("--rule", "psnr >= -0.3 dB", "--rule", "ssim >= -0.01")
    files = ("--junit", "gate.xml", "--markdown", "gate.md")
    done = skipdit(GATE, *rules, *files)
    done.failed(
        5,
        "digits-skip skip-cache(n=3,",
        "1 of 4 checks are broken, first 'psnr >= -0.3 dB'; ",
        "it changed by -0.5 dB",
    )
    suites = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert (suites.get("tests"), suites.get("failures")) == ("4", "1")
    (failure,) = suites.iter("failure")
    assert failure.get("message").startswith("-0.5 dB: ")
    assert [suite.get("name") for suite in suites] == ["psnr >= -0.3 dB", "ssim >= -0.01"]
    text = (tmp_path / "gate.md").read_text()
    assert text.startswith("**1 of 4 checks are broken.**\n")
    assert [line["rule"] for line in table(text)] == ["psnr >= -0.3 dB"] * 2 + ["ssim >= -0.01"] * 2
    records = json.loads(skipdit(GATE, *rules, "--json").out)
    assert [record["kept"] for record in records] == [True, False, True, True]


def test_mistakes(skipdit, old):
    skipdit(GATE, "--rule", "psnr > 1").failed(2, "--rule: cannot read rule 'psnr > 1'; write a")
    skipdit(GATE).failed(2, "'--rule'")
    skipdit("gate --baseline old --candidate nowhere --rule psnr>=0").failed(
        2, "--candidate: there is no folder nowhere; name a results folder"
    )
    skipdit(GATE, "--rule", "lpips <= 0").failed(
        3, "rule 'lpips <= 0': no run has lpips in both old and new; score or time the same runs"
    )
