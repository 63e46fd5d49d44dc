"""Tests of the tests: each mistake of `mutants.toml` is made alone, and its tests have to fail.

    python tests/mutants.py [--only NAME ...] [--jobs N]

A mistake is made in a copy of this tree, never here. Exits with 1 and names what no test noticed.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".toml")
PYTEST = (
    *("-m", "pytest", "-n0", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=line"),
    *("-m", "not vbench"),  # slow ones too
)
LIMIT = 300  # seconds that the tests of one mistake may take


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One mistake.

    Attributes:
        name: what `--only` takes.
        file: the product's file, from the root.
        find: a text that is in the file once.
        replace: what the mistake has in its place.
        tests: node ids or files of tests, of which one has to fail.
        why: what the mistake would do to a user, in one line.
    """

    name: str
    file: str
    find: str
    replace: str
    tests: list[str]
    why: str


def read() -> list[Mutant]:
    """The mistakes of the list."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    return [Mutant(name=name, **fields) for name, fields in listed.items()]


def problem(mutant: Mutant) -> str:
    """Why a mistake cannot be made in this tree, or its tests not be run; "" if they can."""
    path = ROOT / mutant.file
    if not path.is_file():
        return f"there is no {mutant.file}"
    if (count := path.read_text(encoding="utf-8").count(mutant.find)) != 1:
        return f"{mutant.find!r} is {count} times in {mutant.file}, not once"
    if mutant.find == mutant.replace or not mutant.tests or not mutant.why:
        return "it changes nothing, names no test or does not say why"
    for test in mutant.tests:
        file, *names = test.split("::")
        if not (ROOT / file).is_file():
            return f"there is no {file}"
        known = _functions(ROOT / file)
        if strange := [name for name in names if name.partition("[")[0] not in known]:
            return f"{file} has no {strange[0]}"
    return ""


@cache
def _functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@contextmanager
def copies(number: int) -> Iterator[list[Path]]:
    """Copies of the files that git would take, ignored ones left out."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        places = [Path(folder, str(i)) for i in range(number)]
        for place in places:
            for name in filter(None, listed.split("\0")):
                if (ROOT / name).is_file():
                    (place / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / name, place / name)
        yield places


def run_tests(place: Path, tests: list[str], *, limit: int | None = LIMIT) -> tuple[int, str]:
    """Exit code of pytest in a copy, and what it said; 0 all passed, 1 some failed."""
    own = {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, *PYTEST, *tests]
    try:
        done = subprocess.run(
            command, cwd=place, env=os.environ | own, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end in {limit} s"
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def _put(path: Path, text: str) -> None:
    """Write a module, and forget its bytecode, which could pass for that of the new text."""
    path.write_text(text, encoding="utf-8")
    shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)


def verdict(mutant: Mutant, place: Path) -> str:
    """What is wrong with the tests of a mistake, or "" if they notice it."""
    path = place / mutant.file
    sound = path.read_text(encoding="utf-8")
    _put(path, sound.replace(mutant.find, mutant.replace))
    try:
        code, said = run_tests(place, mutant.tests)
    finally:
        _put(path, sound)
    if code == 1:
        return ""
    return "survived" if code == 0 else f"its tests did not run (exit code {code}):\n{said}"


def main() -> int:
    """Check the list, see that its tests pass without a mistake, then make one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", metavar="NAME", nargs="+", help="only these mistakes")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    given = parser.parse_args()
    mutants = [each for each in read() if not given.only or each.name in given.only]
    if unknown := set(given.only or ()) - {each.name for each in mutants}:
        parser.error(f"no mistake is called {', '.join(sorted(unknown))}")
    if problems := [f"{each.name}: {why}" for each in mutants if (why := problem(each))]:
        print(*problems, sep="\n")
        return 1
    survived, started = [], time.monotonic()
    with copies(given.jobs) as places, ThreadPoolExecutor(given.jobs) as pool:
        free: SimpleQueue[Path] = SimpleQueue()
        for place in places:
            free.put(place)

        def one(mutant: Mutant | None, tests: list[str]) -> tuple[str, float]:
            place, begun = free.get(), time.monotonic()
            try:
                if mutant:
                    return verdict(mutant, place), time.monotonic() - begun
                code, said = run_tests(place, tests, limit=None)
                return said if code else "", time.monotonic() - begun
            finally:
                free.put(place)

        tests = sorted({test for each in mutants for test in each.tests})
        parts = [tests[i :: given.jobs] for i in range(given.jobs)]
        print(f"{len(mutants)} mistakes; first their {len(tests)} tests without one", flush=True)
        for said, _ in pool.map(lambda part: one(None, part) if part else ("", 0.0), parts):
            if said:
                print(said, "\nthe tests fail without a mistake", sep="\n")
                return 1
        running = {pool.submit(one, each, each.tests): each for each in mutants}
        for count, future in enumerate(as_completed(running), start=1):
            (what, seconds), mutant = future.result(), running[future]
            if what:
                survived.append(mutant)
            shown = f"{what}: {mutant.why}" if what else "noticed"
            print(f"{count:3}/{len(mutants)} {seconds:4.0f} s  {mutant.name}: {shown}", flush=True)
    minutes = (time.monotonic() - started) / 60
    print(f"{len(mutants) - len(survived)} of {len(mutants)} noticed, {minutes:.0f} minutes")
    if survived:
        print(f"survived: {' '.join(each.name for each in survived)}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
