"""Methods that decide while they run, and those that are calibrated, as a user meets them."""

import json

import pytest

FEW = "--num-samples 2 --batch-size 2 --steps 8"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_plan_says_what_only_a_run_can_tell(skipdit, tmp_path):
    command = f"plan --model digits --cache first-block --cache taylorseer {FEW}"
    done = skipdit(command, "--results", tmp_path).ok()
    line = next(line for line in done.out.splitlines() if "first-block" in line)
    assert line.count("at run") == 6
    assert "at run" not in next(line for line in done.out.splitlines() if "taylorseer" in line)
    (_, row, other) = json.loads(skipdit(command, "--results", tmp_path, "--json").ok().out)["rows"]
    assert (row["steps"], row["full_steps"], row["flops"], row["ideal_speedup"]) == (8, *[None] * 3)
    assert other["full_steps"] == 3  # 0, 1, 6


def test_a_sweep_shows_what_a_dynamic_method_did(skipdit, tmp_path):
    """A threshold that nothing exceeds: every step but the first is cached."""
    cache = "first-block(threshold=100)"
    command = f"cache-sweep --model digits --cache {cache} {FEW} --repeats 0 --json --metrics psnr"
    done = skipdit(command, "--results", tmp_path).ok()
    lines = json.loads(done.out)
    rows = lines["rows"] if isinstance(lines, dict) else lines
    line = next(row for row in rows if "first-block" in row["cache"])
    assert (line["full"], line["cached"]) == ("1", "7")
    assert line["ideal"]["ours"] > 2
    planned = f"plan --model digits --cache {cache} {FEW} --json"
    row = json.loads(skipdit(planned, "--results", tmp_path).ok().out)["rows"][1]
    assert (row["full_steps"], row["cached_steps"]) == (1, 7)


def test_calibrate_and_use(skipdit, tmp_path, home):
    command = f"analyze calibrate --model digits {FEW}"
    for method, many in (("teacache", 5), ("mag-cache", 8)):
        done = skipdit(command, "--method", method, "--results", tmp_path).ok()
        path = home / "calibration" / "digits" / f"{method}-ddim-8.json"
        assert done.out == f"{method} on digits, from 14 observations: {path}\n"
        content = json.loads(path.read_text())
        [values] = content["settings"].values()
        assert len(values) == many
        sample = f"sample --model digits --cache {method} {FEW} --json"
        run = json.loads(skipdit(sample, "--results", tmp_path).ok().out)["run"]
        assert "/".join(map(str, values)) in run["cache"]


def test_calibrate_into_a_folder(skipdit, tmp_path, home):
    out = tmp_path / "mine"
    command = f"analyze calibrate --model digits --method mag-cache {FEW} --json"
    [content] = json.loads(skipdit(command, "--out", out, "--results", tmp_path).ok().out)
    assert content["file"] == str(out / "mag-cache-ddim-8.json")
    assert content["steps"] == "8"
    assert not home.exists()


def test_calibrate_what_cannot_be(skipdit, tmp_path, home):
    command = "analyze calibrate --model digits"
    skipdit(command, "--method", "skip-cache").failed(2, "skip-cache", "did you mean 'dp-cache'")
    skipdit(command, "--steps", "3", "--num-samples", "1").failed(2, "--steps", "5 coefficients")
    skipdit("analyze calibrate --model latte-skip").failed(4, "download latte-skip")


def test_a_model_without_calibration(skipdit, tmp_path, home):
    done = skipdit("plan --model latte-skip --cache teacache", "--results", tmp_path)
    done.failed(4, "`skipdit analyze calibrate --model latte-skip --method teacache`")


def test_random_weights_say_nothing_of_a_dynamic_method(skipdit, tmp_path):
    command = "profile --model digits --cache first-block --weights random --steps 4 --repeats 1"
    skipdit(command, "--results", tmp_path).failed(2, "first-block", "--weights random")
