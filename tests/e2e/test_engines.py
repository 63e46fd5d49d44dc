"""Where work runs is chosen by an option or a recipe; what does not fit is told in one line."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SAMPLE = "sample --model digits --num-samples 2 --steps 2"
SWEEP = "cache-sweep --model digits-skip --n 2 --num-samples 2 --steps 2"


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (f"{SAMPLE} --engine rya", ("--engine", "unknown engine 'rya'", "did you mean 'ray'?")),
        (f"{SAMPLE} --no-shared-folder", ("--no-shared-folder", "take --engine ray")),
        (f"{SAMPLE} --slurm time=5", ("--slurm", "take --engine slurm")),
        (f"{SAMPLE} --engine slurm --slurm time", ("--slurm", "'time' is not NAME=VALUE")),
        (f"{SAMPLE} --engine slurm", ("--engine slurm", "there is no sbatch here")),
        (f"{SWEEP} --engine slurm --device cuda", ("--engine slurm", "there is no sbatch here")),
        (f"{SAMPLE} --workers 0", ("--workers", "0")),
    ],
)
def test_what_does_not_fit_is_told(skipdit, tmp_path, monkeypatch, command, parts):
    monkeypatch.setenv("PATH", str(tmp_path))
    skipdit(command).failed(2, *parts)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("name", "extra"), [("ray", "ray"), ("slurm", "submitit")])
def test_what_an_engine_needs_is_named(skipdit, monkeypatch, name, extra):
    monkeypatch.setitem(sys.modules, extra, None)
    skipdit(f"{SAMPLE} --engine {name}").failed(2, f"pip install 'skipdit[{name}]'")


def test_a_gpu_that_is_elsewhere_times_nothing_here(skipdit, tmp_path, monkeypatch):
    from skipdit_cli.generate import on_slurm

    monkeypatch.setattr(on_slurm.shutil, "which", lambda name: f"/bin/{name}")
    given = f"{SWEEP} --engine slurm --device cuda"
    skipdit(given).failed(2, "--repeats", "there is no GPU here to time on", "--repeats 0")


def test_a_recipe_names_its_engine_and_the_command_another(skipdit, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    text = (ROOT / "recipes" / "smoke.yaml").read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("    settings:", "    engine: slurm\n    settings:", 1))
    given = f"cache-sweep {own} --scale tiny --repeats 0 --num-samples 2 --batch-size 2 --steps 2"
    skipdit(given).failed(2, "--engine slurm", "there is no sbatch here")
    skipdit(f"{given} --engine local").ok()
    own.write_text(text.replace("    settings:", "    engine: rya\n    settings:", 1))
    skipdit(given).failed(2, "scales.tiny.engine", "unknown engine 'rya'")
