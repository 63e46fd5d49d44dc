"""`skipdit analyze smoothness` and `spectra` as a user types them."""

import csv
import json

import pytest

from skipdit_cli.checkpoints.card import DRY_RUN

SHORT = "--steps 2 --num-samples 1 --at 2"
SMOOTHNESS = f"analyze smoothness --grid 3 --directions 2 {SHORT}"


@pytest.mark.slow
def test_smoothness_of_two_models(skipdit, tmp_path):
    done = skipdit(f"{SMOOTHNESS} --model digits --model digits-skip").ok()
    first, *_, last = done.out.splitlines()
    assert first == "smoothness of digits and digits-skip"
    assert "| digits-skip |" in done.out
    assert "At step 2 (timestep 0) similarity is above 0.95 on " in done.out
    assert last.startswith("Similarity is the cosine between ")
    folder = tmp_path / "results/analysis/digits+digits-skip"
    names = {path.name for path in folder.iterdir()}
    assert names == {"smoothness.json", "smoothness.csv"} | {
        f"smoothness-{i}.png" for i in (1, 2, 3)
    }
    rows = list(csv.DictReader((folder / "smoothness.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 + 2 * 9
    found = json.loads(skipdit(f"{SMOOTHNESS} --model digits --json").ok().out)
    assert found["models"] == ["digits"]
    assert found["settings"]["grid"] == 3
    assert found["provenance"]["command"].startswith("skipdit analyze smoothness")


@pytest.mark.slow
def test_spectra_of_two_models(skipdit, tmp_path):
    asked = f"analyze spectra --iterations 2 --stacks 1 {SHORT}"
    done = skipdit(f"{asked} --model digits --model digits-skip").ok()
    first, *_, last = done.out.splitlines()
    assert first == "spectra of digits and digits-skip"
    assert "At step 2 (timestep 0) the norm of a stack is at most " in done.out
    assert last.startswith("Norms of Jacobians are found by Lanczos")
    folder = tmp_path / "results/analysis/digits+digits-skip"
    assert len([*folder.glob("spectra-*.png")]) == 6
    rows = list(csv.DictReader((folder / "spectra.csv").read_text().splitlines()))
    assert len(rows) == 2 * 6 + 6 * 5 + 6 * 6 + 2 * 6 + 2 + 2  # weights, maps, layers, one stack
    found = json.loads(skipdit(f"{asked} --model digits --json").ok().out)
    own = ("at", "stacks", "tolerance", "iterations")
    assert [found["settings"][name] for name in own] == [[2], [1], 0.001, 2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--stacks 4", "--stacks: moving-digits-skip has no stack 4; take stacks from 1"),
        ("--stacks x", "--stacks"),
        ("--tolerance 0", "--tolerance: 0 is no tolerance"),
        ("--iterations 1", "--iterations: 1 is too few"),
    ],
)
def test_what_spectra_refuse(skipdit, given, said):
    skipdit(f"analyze spectra --steps 2 {given}").failed(2, said)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--model digits --model digits", "digits is named twice"),
        ("--model digit", "--model"),
        ("--at 3", "--at: moving-digits-skip has no step 3; take steps from 1 to 2, the last one"),
        ("--at x", "--at"),
        ("--grid 4", "--grid: 4 points have no origin among them"),
        ("--radius 0", "--radius: 0 is no radius"),
        ("--directions 0", "--directions: 0 is too few"),
    ],
)
def test_what_smoothness_refuses(skipdit, given, said):
    skipdit(f"analyze smoothness --steps 2 {given}").failed(2, said)


@pytest.mark.slow
def test_smoothness_at_full_size(skipdit, wide):
    """Its weights are moved to eight points."""
    done = skipdit(f"analyze smoothness --grid 3 --directions 1 {wide} --steps 1")
    assert (done.code, done.remarks) == (0, [DRY_RUN])
    assert done.out.startswith("smoothness of ./wide\n")


@pytest.mark.slow
def test_spectra_at_full_size(skipdit, wide):
    """All weights and layers, and both stacks."""
    done = skipdit(f"analyze spectra --stacks 1,2 --iterations 2 {wide} --steps 1")
    assert (done.code, done.remarks) == (0, [DRY_RUN])
    assert done.out.startswith("spectra of ./wide\n")
    assert " of 6 " in done.out  # four layers and two stacks
