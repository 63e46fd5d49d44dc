"""The bench beside the official code says what it lacks; with it, it is no test: `make`."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).with_name("official.py")


@pytest.mark.parametrize("folder", ["", "no/such/folder"])
def test_without_a_folder(folder):
    done = subprocess.run([sys.executable, BENCH, folder], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"bench-official: there is no folder '{folder}'; clone OpenSparseLLMs/Skip-DiT outside of "
        "this tree and say where, as `make bench-official OFFICIAL=../Skip-DiT`\n"
    )


def test_a_folder_of_something_else(tmp_path):
    done = subprocess.run(
        [sys.executable, BENCH, tmp_path, "--only", "c2i"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.endswith(
        "class-to-image/models.py is not there; give the folder of a checkout of "
        "OpenSparseLLMs/Skip-DiT"
    )
