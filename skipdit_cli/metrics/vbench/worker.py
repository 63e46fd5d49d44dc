"""Runs in VBench's own environment: one dimension of one folder of clips, JSON file to JSON file.

    python -I worker.py REQUEST RESPONSE

A request is {"dimension": "scene", "folder": "...", "mode": "vbench_standard" or "custom_input",
"device": "cpu", "version": "0.1.5", "prompts": {file name: prompt}}, with an absolute path. A
response is {"score": 0.4272, "videos": {file name: score}, "versions": {...}} or {"error": "...",
"missing": whether something has to be installed or downloaded first}. Whatever vbench prints goes
where the caller sends it; its exit code says nothing. `-I` keeps this folder off the path.
"""

import errno
import json
import math
import os
import sys
import tempfile
import traceback
from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

DETECTOR = ("object_class", "multiple_objects", "color", "spatial_relationship")
LEAVES_OUT = ("color",)  # has no score for a clip in which the object was not found
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)


def main(request_file: str, response_file: str) -> None:
    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    try:
        text = json.dumps(score(request), allow_nan=False)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        text = json.dumps({"error": say(error), "missing": is_missing(error)})
    partial = Path(f"{response_file}.tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, response_file)


def score(request: dict[str, Any]) -> dict[str, Any]:
    """The response to a request; whatever vbench raises goes through."""
    dimension, folder, device = request["dimension"], Path(request["folder"]), request["device"]
    versions = installed(request["version"])
    if dimension in DETECTOR and util.find_spec("detectron2") is None:
        raise ModuleNotFoundError("detectron2, which is not on the package index, is not installed")

    import torch
    import vbench

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeError("this environment sees no CUDA device")
    table = Path(vbench.__file__).with_name("VBench_full_info.json")
    prompts = request["prompts"] if request["mode"] == "custom_input" else []
    with tempfile.TemporaryDirectory() as out:
        vbench.VBench(torch.device(device), str(table), out).evaluate(
            videos_path=str(folder),
            name="skipdit",
            prompt_list=prompts,
            dimension_list=[dimension],
            mode=request["mode"],
        )
        text = Path(out, "skipdit_eval_results.json").read_text(encoding="utf-8")
    return {**read(text, dimension, request["prompts"]), "versions": versions}


def read(text: str, dimension: str, names: Iterable[str]) -> dict[str, Any]:
    """{"score": ..., "videos": {file name: score}}, from what vbench wrote about named clips.

    Raises:
        RuntimeError: a clip has no score (vbench skips, silently, what it cannot read), or the
            score is not finite.
    """
    value, entries = json.loads(text)[dimension]
    videos = {Path(entry["video_path"]).name: entry["video_results"] for entry in entries}
    missed = sorted(set(names) - set(videos))
    if missed and dimension not in LEAVES_OUT:
        raise RuntimeError(f"{len(missed)} clips have no score, the first is {missed[0]}")
    if not math.isfinite(value):
        raise RuntimeError(f"the score is {value}")
    return {"score": value, "videos": videos}


def installed(wanted: str) -> dict[str, str]:
    """The versions that make a score; ModuleNotFoundError unless vbench is the wanted one."""
    names = ("vbench", "torch", "torchvision", "transformers", "opencv-python", "decord")
    versions = {name: metadata.version(name) for name in names}
    if versions["vbench"] != wanted:
        raise ModuleNotFoundError(f"vbench {versions['vbench']} is installed, not {wanted}")
    return versions


def chain(error: BaseException) -> list[BaseException]:
    """An error and those it came from; vbench wraps what an import raises."""
    errors: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in errors:
        errors.append(current)
        current = current.__cause__ or current.__context__
    return errors


def say(error: BaseException) -> str:
    """One line that starts with what went wrong first."""
    first = chain(error)[-1]
    line = " ".join(str(first).split())
    return f"{type(first).__name__}: {line[:500]}" if line else type(first).__name__


def is_missing(error: BaseException) -> bool:
    """Whether a package, a program, a file or a download is absent.

    A failed download is an OSError (URLError, or transformers' own without a number) or a wget that
    failed; so is a disk that is full or closed, which is another matter.
    """
    for each in chain(error):
        if isinstance(each, OSError) and each.errno not in DISK:
            return True
        if isinstance(each, ImportError | CalledProcessError):
            return True
    return False


if __name__ == "__main__":
    main(*sys.argv[1:])
