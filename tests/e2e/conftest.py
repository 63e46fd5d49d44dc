"""The command line as a user types it: in this process where a test only reads what is printed (so
that torch is imported once), in one of its own where starting and signals matter."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from skipdit_cli.checkpoints import catalog, folder
from skipdit_cli.cli import main
from tests.tiny_pipelines import make

ROOT = Path(__file__).parents[2]
PROGRESS = re.compile(
    r"(analyzing|calibrating|encoding|estimate:|exporting|kept:|sampling|scoring|study|target:|"
    r"step|timing|training|trying|waiting:|wrote|scale) "
)
SWEEP = "cache-sweep --model digits-skip --n 2..3 --steps 6 --num-samples 3 --batch-size 2"


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def remarks(self) -> list[str]:
        """What is on stderr beside progress."""
        return [line for line in self.err.splitlines() if not PROGRESS.match(line)]

    def ok(self) -> "Outcome":
        assert (self.code, self.remarks) == (0, []), self
        return self

    def failed(self, code: int, *parts: object) -> "Outcome":
        """The command failed and told it in one line, its last, that has every part in it."""
        assert self.code == code, self
        assert len(self.remarks) == 1, self
        line = self.err.splitlines()[-1]
        assert [line] == self.remarks
        assert line.startswith("skipdit: ")
        assert len(line) < 800
        assert [part for part in parts if str(part) not in line] == [], line
        return self


@dataclass(frozen=True)
class Skipdit:
    """`skipdit(...)` runs a command in this process, `start` and `wait` in a process of its own.

    Attributes:
        fewer_steps: whether sweeps and plans of a model have their rows of fewer steps, as they do
            where nothing else is said. Half of the time of most tests would go into them.
    """

    fewer_steps: bool = False

    def __call__(self, *arguments: object) -> Outcome:
        """The first argument may be a whole command line, to be split at its spaces."""
        out, err, code = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["skipdit", *self._words(arguments)])
            try:
                main()
            except SystemExit as end:
                code = end.code or 0
        return Outcome(code, out.getvalue(), err.getvalue())

    def start(
        self, *arguments: object, program: tuple[str, ...] = ("-m", "skipdit_cli"), **how: Any
    ):
        return subprocess.Popen(
            [sys.executable, *program, *self._words(arguments)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                **how,
            },
        )

    def wait(self, process: subprocess.Popen, *, seconds: float = 240) -> Outcome:
        out, err = process.communicate(timeout=seconds)
        return Outcome(process.returncode, out, err)

    def _words(self, arguments: tuple[object, ...]) -> list[str]:
        line, *others = map(str, arguments)
        words = [*line.split(), *others]
        of_model = words[:1] in (["cache-sweep"], ["plan"])
        if self.fewer_steps or not of_model or {"--recipe", "--all", "--help"} & {*words}:
            return words
        recipe = len(words) > 1 and not words[1].startswith("-")
        return words if recipe else [*words, "--no-fewer-steps"]


@pytest.fixture(scope="session")
def skipdit() -> Skipdit:
    return Skipdit()


@pytest.fixture(scope="session")
def whole() -> Skipdit:
    """As `skipdit`, with the rows of fewer steps."""
    return Skipdit(fewer_steps=True)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Nothing is written into the checkout, whatever the default folder of a command."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def swept(skipdit, tmp_path_factory) -> tuple[Path, Outcome]:
    """A results folder after a sweep in a process of its own; not to be changed."""
    root = tmp_path_factory.mktemp("swept") / "results"
    done = skipdit.wait(skipdit.start(f"{SWEEP} --repeats 1 --results", root))
    return root, done


@pytest.fixture(scope="session")
def samples():
    """samples(results folder) -> content of every sample by run/file."""

    def read(root: Path) -> dict[str, bytes]:
        found = (path for path in (root / "samples").glob("*/*") if path.suffix in (".png", ".mkv"))
        return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}

    return read


@pytest.fixture(scope="session")
def made():
    """made(results folder) -> how many images it has."""
    return lambda root: sum(1 for _ in root.glob("samples/*/*.png"))


@pytest.fixture(scope="session")
def documented() -> Callable[[str], list[str]]:
    """documented(page) -> the `skipdit` lines of its shell blocks, in order, without comments."""

    def read(page: str) -> list[str]:
        text = (ROOT / page).read_text(encoding="utf-8")
        blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
        lines = [line.partition(" #")[0].strip() for line in blocks.splitlines()]
        assert [line for line in lines if not re.match(r"(skipdit|make)\b", line)] == []
        return [line for line in lines if line.startswith("skipdit ")]

    return read


@pytest.fixture(scope="session")
def table():
    """table(text) -> a Markdown table in it, the first unless told, one dictionary per line."""

    def parse(text: str, number: int = 0) -> list[dict[str, str]]:
        plain = text.replace("**", "")  # bold: the best of a column
        lines = re.findall(r"(?:^\|.*\n?)+", plain, re.MULTILINE)[number].splitlines()
        headings, _, *body = ([c.strip() for c in ln.strip("|").split("|")] for ln in lines)
        return [dict(zip(headings, line, strict=True)) for line in body]

    return parse


@pytest.fixture
def wide() -> str:
    """Arguments for four layers of DiT-XL/2 with skip branches, drawn at random, on one sample."""
    chosen = catalog.card("dit-xl-2-skip")
    Path("wide").mkdir()
    folder.write(Path("wide"), replace(chosen, arguments={**chosen.arguments, "depth": 4}))
    return "--model ./wide --weights random --num-samples 1 --guidance none"


@pytest.fixture(scope="session")
def wait_for():
    """wait_for(condition): until it holds, looked at again after `every` seconds."""

    def wait(
        condition: Callable[[], object], *, seconds: float = 240, every: float = 0.005
    ) -> None:
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() - begun < seconds, "waited in vain"
            time.sleep(every)

    return wait


@pytest.fixture(scope="session")
def flux(tmp_path_factory):
    return make("flux", tmp_path_factory.mktemp("pipelines") / "flux")
