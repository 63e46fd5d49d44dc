"""Somebody else's package, built from the guide: five kinds of file, and nothing else touched."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GUIDE = Path(__file__).parents[2] / "CONTRIBUTING.md"
BLOCK = re.compile(r"^```\w+ title=\"([^\"]+)\"\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^(skipdit [^#\n]+?) *(?:#.*)?$", re.MULTILINE)

pytestmark = pytest.mark.slow

# In one process, so that torch is imported once: every command line on stdin, as JSON.
RUNNER = """
import contextlib, io, json, sys
from skipdit_cli.cli import main
done = []
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["skipdit", *line]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    done.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(done))
"""
WEIGHTS = """
import sys, torch
from safetensors.torch import save_file
from skipdit_cli.checkpoints import catalog
from skipdit_cli.checkpoints import networks
torch.manual_seed(0)
save_file(networks.build(catalog.card("mixer"), device="cpu").state_dict(), sys.argv[1])
"""


def blocks() -> dict[str, str]:
    return dict(BLOCK.findall(GUIDE.read_text(encoding="utf-8")))


class Outside:
    """An installed package, and the commands of a user who has it."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder, self.site = folder, site
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(site), str(GUIDE.parent)]),
            "SKIPDIT_HOME": str(folder / "home"),
        }

    def python(self, *arguments: str, given: str = "") -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *lines: str) -> list[tuple[int, str, str]]:
        """(exit code, stdout, stderr) of every command line, without `skipdit` in front."""
        given = json.dumps([line.split() for line in lines])
        return [tuple(each) for each in json.loads(self.python("-c", RUNNER, given=given))]


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Outside:
    folder = tmp_path_factory.mktemp("outside")
    source = folder / "source"
    rows = io.BytesIO()
    np.save(rows, np.linspace(1, 2, 16))
    for name, text in blocks().items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(rows.getvalue()).hexdigest()
        path.write_text(text.replace("DIGEST", digest).replace("size=256", f"size={rows.tell()}"))
    (source / "skipdit_example" / "row_weights.npy").write_bytes(rows.getvalue())
    for package in ("skipdit_example", "skipdit_example/recipes"):
        (source / package / "__init__.py").write_text("")
    site = folder / "site"
    how = "--quiet --no-index --no-deps --no-build-isolation --disable-pip-version-check"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *how.split(), "--target", site, source], check=True
    )
    made = Outside(folder, site)
    weights = site / "skipdit_example" / "diffusion_pytorch_model.safetensors"
    made.python("-c", WEIGHTS, str(weights))
    return made


def test_the_commands_of_the_guide(outside):
    """Each as it stands there, in its order; the plan and the scores by hand."""
    page = GUIDE.read_text(encoding="utf-8")
    lines = COMMANDS.findall(page[page.index("### What it takes to run them") :])
    assert len(lines) == 7
    listed = ("ls caches", "ls samplers", "ls metrics", "ls models", "ls recipes")
    target = "plan --model mixer --method echo --sampler dpm-solver --steps 8 --target-macs 60%"
    more = ("plan echoes --json", "evaluate echoes --json --metrics weighted-mse", target)
    runs = outside.run(*listed, *(line.removeprefix("skipdit ") for line in lines), *more)
    assert [code for code, *_ in runs] == [0] * 15, [err for _, _, err in runs]
    caches, samplers, metrics, models, recipes, settings, fetched, calibrated, *tables = (
        out for _, out, _ in runs
    )
    assert "Echo: reuse MLPs every second step" in caches
    assert "DPM-Solver++ (2M), through diffusers." in samplers
    assert "weighted-mse" in metrics
    assert "mixer" in models
    assert "Echo on a mixer" in recipes
    assert "decay" in settings
    assert "measured on the model" in settings
    assert "row-weights" in fetched
    assert "echo on mixer, from 112 observations" in calibrated  # 16 samples, 7 changes each
    shown, swept, evaluated, reported, planned, scores, nearest = tables
    assert "nearest to 60 % of MACs by counting: echo by n" in nearest
    assert "Echo n=2" in shown
    for table in (swept, reported):
        assert "Weighted MSE" in table
        assert "PSNR" not in table  # what was not asked for is no column
    assert "weighted-mse" in evaluated
    plain, second, fourth = json.loads(planned)["rows"]
    assert (plain["full_steps"], plain["cached_steps"]) == (8, 0)
    assert (second["full_steps"], second["cached_steps"]) == (4, 4)
    assert (fourth["full_steps"], fourth["cached_steps"]) == (2, 6)
    # a reused step computes one half of guidance, without MLPs of 4 layers x 16 tokens x 2 x 24^2
    mlps, rows = 4 * 16 * 2 * 24 * 24, 4
    whole = plain["macs_executed"] / rows / 16
    expected = rows * (4 * 2 * whole + 4 * (whole - mlps))
    assert second["macs_executed"] == pytest.approx(expected)
    reference, *cached = (line["value"] for line in json.loads(scores))
    assert not reference
    assert len(cached) == 2
    assert all(value > 0 for value in cached)


@pytest.mark.slow  # the key itself: tests/unit/plan/test_plan.py
def test_an_edited_file_makes_its_samples_again(outside):
    """The source's hash is part of the key of runs that use it, and of no other's."""

    def keys() -> list[str]:
        """Of a run of the edited cache, and of one of another."""
        specs = ("echo(decay=0.5)", "fora")
        planned = outside.run(*(f"plan --model digits --cache {spec} --json" for spec in specs))
        return [json.loads(out)["rows"][1]["key"] for _, out, _ in planned]

    before = keys()
    path = outside.site / "skipdit_example" / "echo.py"
    text = path.read_text()
    path.write_text(text + "\n# another thought\n")
    try:
        after = keys()
    finally:
        path.write_text(text)
    assert before[0] != after[0]
    assert before[1] == after[1]


STRAYS = ("denoise(x, t.repeat", "denoise(x, (t - 1).repeat")
BROKEN = [
    ("echo.py", "def hooked(", "def hooks_me(", "`hooked` is missing"),
    ("echo.py", "return Settings(config.n, config.decay)", "return None", "`resolve` gives None"),
    ("echo.py", "def fit(", "def fit", "cannot be imported (SyntaxError"),
    ("dpm_solver.py", *STRAYS, "visits timestep 998 at step 0 and announces 999"),
    ("mixer.py", '"blocks.{i}.mlp"', '"blocks.{i}.mpl"', "mpl"),
]


@pytest.mark.parametrize(("file", "good", "bad", "said"), BROKEN)
@pytest.mark.slow  # what is said is held by tests/unit/test_contract.py and the loop's own
def test_a_broken_file_is_one_line(outside, file, good, bad, said):
    """It names the file, or what in it, and what is missing; and there is no traceback."""
    calibrate = "analyze calibrate --model mixer --method echo --sampler dpm-solver --steps 8"
    [(code, *_)] = outside.run(f"{calibrate} --num-samples 4")
    assert code == 0
    path = outside.site / "skipdit_example" / file
    text = path.read_text()
    assert good in text
    path.write_text(text.replace(good, bad))
    try:
        [listed, swept] = outside.run("ls", "cache-sweep echoes --redo")
    finally:
        path.write_text(text)
    code, _, err = swept
    assert code in (1, 2, 3)
    assert said in err
    assert file.removesuffix(".py").split("_")[0] in err
    assert "Traceback" not in err
    assert listed[0] == 0
