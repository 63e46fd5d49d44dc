"""VBench's own environment, which has older packages than skipdit: where it is, and how it is made.

It lies in $SKIPDIT_HOME/vbench-env, with the locked versions that ship; a copy of these is put into
it last and says that it is whole. SKIPDIT_VBENCH_PYTHON names another one.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, SkipditError, UsageError
from skipdit_cli.storage.disk import on_disk, put

INTERPRETER = "SKIPDIT_VBENCH_PYTHON"  # the environment variable that names it
MAKING = "`skipdit vbench-env`"  # what makes it
VERSIONS = ("3.11", "3.10")  # of Python, which vbench's packages are for
_WHOLE = "locked.txt"
_ASKED = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


def folder() -> Path:
    """Where `make` puts it."""
    return shipped.home() / "vbench-env"


def interpreter() -> Path:
    """The Python of VBench's environment.

    Raises:
        MissingAssetError: there is none.
    """
    named = os.environ.get(INTERPRETER, "")
    if found := shutil.which(named) if named else _made():
        return Path(found).absolute()  # not resolved: the link makes it that environment's
    raise MissingAssetError(
        f"{INTERPRETER}={named} is not an interpreter"
        if named
        else "VBench's environment is not here",
        place="vbench",
        fix=f"run {MAKING}, or name its Python in {INTERPRETER}",
    )


def make(python: str | None = None, *, tell: Callable[[str], object]) -> Path:
    """Make the environment, unless it is there with the versions that are locked now.

    Args:
        python: a Python of VERSIONS; None for the first that is found.
        tell: told before it begins, as it takes minutes.
    Returns:
        Its Python.
    Raises:
        UsageError: there is no such Python.
        StoreError: the disk refuses.
        SkipditError: venv or pip failed; what it said last is told.
    """
    pins, here = shipped.vbench_pins(), folder()
    if (made := _made()) and (here / _WHOLE).read_bytes() == pins.read_bytes():
        return made
    chosen, own = _python(python), here / "bin" / "python"
    tell(f"making VBench's environment in {here}: 3 GB to fetch, 6 GB on disk, some minutes")
    with on_disk(here):
        here.mkdir(parents=True, exist_ok=True)
        (here / _WHOLE).unlink(missing_ok=True)
    install = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([chosen, "-m", "venv", "--clear", str(here)])
    _run([*install, "-c", str(pins), "pip", "setuptools", "wheel"])
    _run([*install, "vbench", "torch", "torchvision"], PIP_CONSTRAINT=str(pins))  # of builds too
    with on_disk(here):
        put(here / _WHOLE, pins.read_bytes())
    return own


def _made() -> Path | None:
    """The Python of an environment that was made to its end."""
    python = folder() / "bin" / "python"
    return python if (folder() / _WHOLE).is_file() and os.access(python, os.X_OK) else None


def _python(named: str | None) -> str:
    """A Python that environments of VERSIONS can be made by; a name on the path may be a stub."""
    known = (sys.executable, *(f"python{version}" for version in VERSIONS))
    for each in [named] if named else _found(known):
        if _version(each) in VERSIONS:
            return each
    wanted = " or ".join(VERSIONS)
    raise UsageError(
        f"{named} is no Python {wanted} that can make an environment"
        if named
        else f"there is no Python {wanted} here, which VBench needs",
        place="--python" if named else "skipdit vbench-env",
        fix="install one (`uv python install 3.11`, or python3.11-venv of the system), and name it "
        "with --python PATH",
    )


def _found(names: Iterable[str]) -> list[str]:
    return list(filter(None, map(shutil.which, names)))


def _version(python: str) -> str:
    """What a Python says its version is; "" where it is none, or lacks what environments take."""
    try:
        asked = subprocess.run([python, "-c", _ASKED], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()


def _run(command: list[str], **variables: str) -> None:
    """Run a command; an error has the last line of what it said."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise SkipditError(f"cannot be run ({error.strerror})", place=command[0]) from None
    if done.returncode:
        said = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        last = said[-1] if said else f"exit code {done.returncode}"
        fix = "mend that and run the same command again"
        raise SkipditError(last, place=shlex.join(command), fix=fix)
