"""Where a number comes from: code, packages, device and command, as a dictionary for JSON.

Nothing here tells who made it or where on their machine: absolute paths in the command are cut to
their last part.
"""

import functools
import os
import platform
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from skipdit_cli import __version__

PACKAGES = ("torch", "diffusers", "numpy", "scikit-image")
_FOLDER = Path(__file__).parents[1]
_TEXTS = ("--prompt", "--negative-prompt")  # options that no path follows
_TEXT = re.compile(rf"({'|'.join(_TEXTS)})=|(--set=)?negative_prompt=")
_PATH = re.compile(  # all of an absolute path but its last part, behind no scheme as of http://
    r"(^|[=,@]|:(?!//[^/]))/+(?:[^/,]+/+)*(?=[^/,])"
)


def collect(*, import_torch: bool = False, device: str = "") -> dict[str, Any]:
    """Everything known about this process; cheap after the first call, raises nothing.

    Args:
        device: "cpu" or "cuda", what the number was computed on; without it the device is the GPU
            if this process uses one, and the processor otherwise.
        import_torch: import torch to ask it about device and precision; otherwise it is asked only
            if it is imported already, and if not, precision and threads are None.
    """
    return {
        "skipdit": __version__,
        **_checkout(),
        **_versions(),
        **_torch(import_torch, device),
        "command": command_line(sys.argv),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def command_line(argv: list[str]) -> str:
    """A command as it can be typed anywhere: paths of this machine are cut, and nothing else is.

    >>> command_line(["/home/me/bin/skipdit", "report", "--out=/home/me/my runs"])
    "skipdit report '--out=my runs'"
    >>> command_line(["skipdit", "sample", "--prompt", "/imagine a/b", "--from", "hf://a/b"])
    "skipdit sample --prompt '/imagine a/b' --from hf://a/b"
    """
    before = ["", *argv[1:]]
    parts = (
        part if option in _TEXTS or _TEXT.match(part) else _PATH.sub(r"\1", part)
        for option, part in zip(before, argv[1:], strict=False)
    )
    return shlex.join(["skipdit", *parts]).encode(errors="backslashreplace").decode()


@functools.cache
def _checkout() -> dict[str, Any]:
    """Commit of the checkout the package lies in, and whether the package differs from it."""
    if not (_FOLDER.parent / ".git").exists():
        return {"commit": None, "dirty": None}
    commit = _git("rev-parse", "--verify", "HEAD")
    changed = _git("--no-optional-locks", "status", "--porcelain", "--", _FOLDER.name)
    return {"commit": commit, "dirty": None if changed is None else changed != ""}


def _git(*arguments: str) -> str | None:
    variables = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=_FOLDER.parent,
            env=variables,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@functools.cache
def _versions() -> dict[str, str | None]:
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def device_name(device: str) -> str:
    """What a device ("cpu", "cuda", "cuda:1") is called by its maker; itself if torch has none."""
    if not device.startswith("cuda"):
        return _processor()
    import torch

    with suppress(RuntimeError, AssertionError):  # the latter: torch was built without CUDA
        return torch.cuda.get_device_name(device)
    return device


def _torch(import_torch: bool, device: str) -> dict[str, Any]:
    if import_torch:
        with suppress(ImportError):
            import_module("torch")
    torch = sys.modules.get("torch")
    if torch is None:
        unknown = dict.fromkeys(("tf32_matmul", "tf32_cudnn", "threads"))
        return {"device": _processor(), **unknown}
    device = device or ("cuda" if torch.cuda.is_initialized() else "cpu")
    return {
        "device": device_name(device),
        "tf32_matmul": _tf32(torch.backends.cuda.matmul),
        "tf32_cudnn": _tf32(torch.backends.cudnn),
        "threads": torch.get_num_threads(),
    }


def _tf32(backend: Any) -> bool | None:
    try:
        return backend.allow_tf32
    except RuntimeError:  # set through the newer fp32_precision, to what this flag cannot say
        return None


@functools.cache
def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()
