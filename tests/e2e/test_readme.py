"""What the README says is true: its commands parse, and its cache is a cache once it is a file."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from skipdit_cli.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
COMMANDS = [
    line.split("#")[0].strip() for line in SHELL.splitlines() if line.startswith("skipdit ")
]
TARGETS = re.findall(r"\bmake ([a-z0-9-]+)", README)


def test_there_are_commands():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_parses(command):
    group = typer.main.get_command(app)
    _, name, *arguments = shlex.split(command)
    with group.make_context("skipdit", [name, *arguments]) as context:
        found = group.get_command(context, name)
        assert found is not None
        with found.make_context(name, arguments, parent=context) as inner:
            assert set(inner.params)


@pytest.mark.parametrize("target", sorted(set(TARGETS)))
def test_every_make_target_exists(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the package with the README's cache in it."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "skipdit_cli", folder / "skipdit_cli")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    (source,) = re.findall(r'```python\n("""Every-other.*?)```', README, re.DOTALL)
    (folder / "skipdit_cli" / "caches" / "every_other.py").write_text(source, encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "skipdit_cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_cache_is_one_file(extended):
    assert "Every-other: reuse all attention outputs" in run(extended, "ls", "caches")
    planned = run(extended, "plan", "--model", "digits", "--cache", "every-other", "--steps", "6")
    (line,) = [line for line in planned.splitlines() if "every-other" in line]
    assert [cell.strip() for cell in line.split("|")][2:4] == ["3", "3"]  # full, cached
    swept = run(
        extended,
        *("cache-sweep", "--model", "digits", "--cache", "every-other", "--steps", "6"),
        *("--num-samples", "2", "--batch-size", "2", "--repeats", "1"),
    )
    (line,) = [line for line in swept.splitlines() if "every-other" in line and "|" in line]
    cells = [cell.strip() for cell in line.split("|")]
    assert 0 < float(cells[cells.index("every-other") + 1 :][10 - 1].split()[0]) < 100  # PSNR


def test_the_printed_table_is_the_committed_one():
    printed = README.partition("<!-- demo: begin -->\n")[2].partition("<!-- demo: end -->")[0]
    committed = (ROOT / "results" / "tiny" / "demo.md").read_text(encoding="utf-8")
    assert printed.strip()
    assert printed.strip() in committed
    assert (ROOT / "results" / "tiny" / "demo-samples.png").is_file()
