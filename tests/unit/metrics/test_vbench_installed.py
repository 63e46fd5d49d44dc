"""VBench's environment, made by a stand-in for Python that writes down what it is asked."""

import os
import sys

import pytest

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, SkipditError, UsageError
from skipdit_cli.metrics.vbench import installed

REAL = sys.executable
PYTHON = """#!{real}
import os, pathlib, shutil, sys
words = sys.argv[1:]
if words[0] == "-c":
    sys.exit(print("{version}"))
with open({log!r}, "a") as log:
    print(os.environ.get("PIP_CONSTRAINT", "-"), *words, file=log)
if words[1] == "venv":
    made = pathlib.Path(words[-1], "bin", "python")
    shutil.rmtree(words[-1], ignore_errors="--clear" in words)
    made.parent.mkdir(parents=True)
    shutil.copy(__file__, made)
if {failing!r} in words:
    print("ERROR: no room left\\n")
    sys.exit(7)
"""


@pytest.fixture
def python(tmp_path, monkeypatch):
    """python(version, failing="a word"): its path, and what it was asked is in tmp_path/log."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SKIPDIT_VBENCH_PYTHON", raising=False)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)

    def write(version, *, name="python", failing=""):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        log = str(tmp_path / "log")
        text = PYTHON.format(real=REAL, version=version, log=log, failing=failing)
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    return write


def made(python=None):
    told = []
    return installed.make(python, tell=told.append), told


def test_it_is_made_with_the_locked_versions_and_once(python, tmp_path):
    with pytest.raises(MissingAssetError, match="run `skipdit vbench-env`, or name its Python in"):
        installed.interpreter()
    here, pins = tmp_path / "home" / "vbench-env", shipped.vbench_pins()
    own, told = made(python("3.11"))
    assert own == installed.interpreter() == here / "bin" / "python"
    assert [f"in {here}: 3 GB to fetch" in line for line in told] == [True]
    pip = "-m pip install --quiet --disable-pip-version-check"
    asked = [
        f"- -m venv --clear {here}",
        f"- {pip} -c {pins} pip setuptools wheel",
        f"{pins} {pip} vbench torch torchvision",
    ]
    assert (tmp_path / "log").read_text().splitlines() == asked
    assert made("/nowhere") == (own, [])  # nothing is asked of any Python
    (here / "locked.txt").write_text("vbench==0.1.4\n")
    assert installed.interpreter() == own  # what an earlier version made serves
    made(python("3.10"))
    assert (tmp_path / "log").read_text().splitlines() == asked * 2


def test_what_was_not_made_to_its_end_is_none(python, tmp_path):
    with pytest.raises(SkipditError) as caught:
        made(python("3.11", failing="vbench"))
    assert "pip install" in caught.value.place
    assert (caught.value.problem, caught.value.exit_code) == ("ERROR: no room left", 1)
    with pytest.raises(MissingAssetError):
        installed.interpreter()
    made(python("3.11"))
    assert installed.interpreter()


@pytest.mark.parametrize("version", ["3.12", "", "words"])
def test_another_python_is_refused(python, version):
    with pytest.raises(UsageError, match=r"--python: .* is no Python 3.11 or 3.10 that can make"):
        made(python(version))
    with pytest.raises(UsageError, match="--python: /nowhere is no Python"):
        made("/nowhere")


def test_a_python_is_looked_for_and_a_stub_passed_over(python, tmp_path, monkeypatch):
    python("", name="python3.11")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "executable", python("3.13"))
    with pytest.raises(UsageError, match=r"there is no Python 3.11 or 3.10 here.*--python PATH"):
        made()
    python("3.10", name="python3.10")
    assert made()[0] == installed.interpreter()


def test_this_python_can_be_asked():
    assert installed._version(sys.executable) == "{}.{}".format(*sys.version_info)
    assert installed._version(os.devnull) == ""
