"""What a release has to hold, in a few minutes: `make release-check`.

    python tests/release/check.py

It builds the source distribution and from it the wheel, looks at their metadata, installs the wheel
as people do, by uv and by pipx, each into an environment of its own, and runs commands there from
an empty folder, with an empty home and without the repository. The Dockerfile is linted, and what
it copies has to build the same wheel. Exit code 1: something is not so.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.parser import BytesParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
COMMANDS = {  # what is typed, and what has to be in what it prints
    "ls models": ("| digits-skip ", "| dit-xl-2-skip "),
    "ls recipes": tuple(f"| table{number} " for number in range(1, 9)),
    "plan table1": ("Table 1", "MACs"),
    "cache-sweep --n 2 --num-samples 2 --batch-size 2 --steps 10 --repeats 1": (
        "| skip-cache n=2 ",
        "PSNR (dB)",
    ),
    "report table3": ("| PAB235 ", " 81.2 |", " 1.24 |"),  # of the paper
    "status": ("3 done",),  # the third: as many uncached steps as the cache costs
    "show skip-cache": ("| psnr ",),
    "sample --model digits-skip --num-samples 2 --steps 4": ("2 samples of run ",),
    "sample --pipeline flow-digits --num-samples 1 --steps 2": ("1 sample of run ",),
    "doctor": ("| torch ", "run `skipdit vbench-env`"),
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="skipdit-release-") as scratch:
        try:
            check(Path(scratch))
        except Failure as failure:
            print(f"release-check: {failure}", file=sys.stderr)
            return 1
    return 0


class Failure(Exception):
    """Something of the release is not as it has to be."""


def check(scratch: Path) -> None:
    dist = scratch / "dist"
    with told("building the source distribution, and the wheel from it"):
        run(TOOLS / "python", "-m", "build", "--outdir", dist, ROOT)
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with told("metadata"):
        run(TOOLS / "twine", "check", "--strict", wheel, source)
        look_at_description(wheel)
    with told("what the Dockerfile copies, and its form"):
        run(TOOLS / "hadolint", ROOT / "Dockerfile")
        look_at_context(wheel, scratch / "context")
    for name, install in {"uv": by_uv, "pipx": by_pipx}.items():
        home = scratch / name
        with told(f"installing by {name}"):
            program = install(wheel, home)
        look_at_program(program, home / "work", COMMANDS if name == "uv" else {"ls models": ()})


def look_at_description(wheel: Path) -> None:
    """No link and no picture leads to a file, which an index does not have."""
    with zipfile.ZipFile(wheel) as content:
        (name,) = (each for each in content.namelist() if each.endswith(".dist-info/METADATA"))
        text = str(BytesParser().parsebytes(content.read(name)).get_payload())
    if "## Install" not in text:
        raise Failure("the wheel has no description")
    if found := re.findall(r"\]\((?!https?://|#)[^)]*\)|<img", text):
        raise Failure(f"the description leads to files: {', '.join(found)}")


def look_at_context(wheel: Path, folder: Path) -> None:
    """What .dockerignore lets through builds a wheel of the same files."""
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    for kept in (line[1:] for line in lines if line.startswith("!")):
        (folder / kept).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / kept).is_dir():
            shutil.copytree(
                ROOT / kept, folder / kept, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / kept, folder / kept)
    run(TOOLS / "python", "-m", "build", "--wheel", "--outdir", folder.parent / "again", folder)
    (again,) = (folder.parent / "again").glob("*.whl")
    if differ := set(names(wheel)) ^ set(names(again)):
        raise Failure(f"the image's wheel differs in {', '.join(sorted(differ)[:5])}")


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as content:
        return content.namelist()


def by_uv(wheel: Path, home: Path) -> Path:
    places = {"UV_TOOL_DIR": home / "tools", "UV_TOOL_BIN_DIR": home / "bin"}
    run(TOOLS / "uv", "tool", "install", "--quiet", "--python", sys.executable, wheel, **places)
    return home / "bin" / "skipdit"


def by_pipx(wheel: Path, home: Path) -> Path:
    places = {"PIPX_HOME": home / "tools", "PIPX_BIN_DIR": home / "bin"}
    given = ("--backend", "uv", "--python", sys.executable)
    run(TOOLS / "pipx", "install", *given, wheel, PATH=f"{TOOLS}{os.pathsep}{os.defpath}", **places)
    return home / "bin" / "skipdit"


def look_at_program(program: Path, folder: Path, commands: Mapping[str, tuple[str, ...]]) -> None:
    """Run commands where nothing is but what was installed."""
    folder.mkdir(parents=True)
    alone = {"PATH": os.defpath, "HOME": str(folder.parent / "home"), "OMP_NUM_THREADS": "1"}
    for line, parts in commands.items():
        with told(f"skipdit {line}"):
            out = run(program, *line.split(), cwd=folder, environment=alone)
            if lacking := [part for part in parts if part not in out]:
                raise Failure(f"skipdit {line} does not say {lacking}:\n{out}")
    if "| digits-skip " not in run(program, "ls", "models", cwd=folder, environment=alone):
        raise Failure("skipdit ls models does not list the embedded models")


def run(
    *command: object,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **variables: object,
) -> str:
    """What a command prints; a Failure with all that it said where it does not end well.

    Args:
        environment: in place of this process' own.
        variables: besides. uv is given the constraints and the folder of wheels that pip has.
    """
    own = {
        **os.environ,
        "UV_CONSTRAINT": str(ROOT / "constraints.txt"),
        "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""),
        "UV_PYTHON_DOWNLOADS": "never",
        **{name: str(value) for name, value in variables.items()},
    }
    own.pop("PYTHONPATH", None)
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=cwd,
        env=environment or own,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()
        raise Failure(f"{' '.join(words)} ended with {done.returncode}:\n{said}")
    return done.stdout


@contextmanager
def told(what: str) -> Iterator[None]:
    """Say what is looked at, and how long that took."""
    begun = time.monotonic()
    print(f"release-check: {what}", end=" ", flush=True)
    yield
    print(f"({time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
