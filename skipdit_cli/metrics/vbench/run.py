"""Runs one dimension of VBench in VBench's own environment, or finds that this was done already.

A finished dimension is DIMENSION.json in the caller's folder, written at once and whole; it counts
as long as the clips, their names and the version of vbench are the same. DIMENSION.log beside it is
what vbench prints, and how far it is stands there alone, in the bar of tqdm that every dimension
shows over its clips or its prompts.
"""

import hashlib
import json
import math
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from skipdit_cli.errors import MissingAssetError, SkipditError, StoreError
from skipdit_cli.metrics.vbench import installed
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import on_disk, put, sha256

DIMENSION = kept.Kind("score of vbench", 2)
VBENCH = "0.1.5"
STANDARD, CUSTOM = "vbench_standard", "custom_input"  # vbench's modes
POLL = 1.0  # seconds between two looks at how far vbench is
_BAR = re.compile(rb"(\d+)/(\d+) \[")  # of tqdm; those of downloads count in units: 3M/5M [
_TAIL = 1 << 18  # bytes of the log that are looked at; vbench prints whole lists between two bars
_WORKER = Path(__file__).with_name("worker.py")


class Clip(NamedTuple):
    """One clip as vbench is to see it."""

    name: str  # of the link in the folder that vbench reads, ends in .mp4
    prompt: str
    path: Path
    sha256: str  # of the file; "" is not known


def known(dimension: str, clips: Sequence[Clip], *, mode: str, folder: Path) -> float | None:
    """The raw score of clips whose sha256 is known, if it is in the folder; else None."""
    with kept.damaged_is_absent():
        record = kept.read_json(folder / f"{dimension}.json", dict, DIMENSION, of=dimension)
        if record and record["inputs"] == _digest(clips, mode=mode):
            return float(record["score"])
    return None


def score(
    dimension: str,
    clips: Sequence[Clip],
    *,
    mode: str,
    folder: Path,
    device: str,
    python: Path,
    progress: Callable[[int], object] = lambda done: None,
) -> float:
    """Score clips and keep the result in the folder; the raw score, normally 0 to 1.

    Args:
        mode: STANDARD or CUSTOM. python: of VBench's environment.
        device: "cpu", "cuda", or one of several GPUs, "cuda:1".
        progress: called with clips scored, about, while vbench runs.

    Raises:
        MissingAssetError: weights or a package are missing, or a download failed.
        StoreError: a clip is not what it was when it was made, or the disk.
        SkipditError: vbench failed, or left a clip out.
    """
    for clip in clips:
        _verify(clip)
    device, _, gpu = device.partition(":")
    with on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".vbench-", dir=folder) as scratch:
            request = {
                "dimension": dimension,
                "folder": str(_linked(clips, Path(scratch).absolute() / "clips")),
                "mode": mode,
                "device": device,
                "version": VBENCH,
                "prompts": {clip.name: clip.prompt for clip in clips},
            }
            log = folder / f"{dimension}.log"
            look = _looker(log, clips, progress)
            place = Path(scratch)
            response = _ask(request, scratch=place, log=log, to=python, look=look, gpu=gpu)
        value = _value(response, dimension, log=log)
        record = {
            "dimension": dimension,
            "score": value,
            "clips": len(clips),
            "mode": mode,
            "device": device,
            "inputs": _digest(clips, mode=mode),
            "versions": response.get("versions", {}),
            "videos": response.get("videos", {}),
        }
        put(folder / f"{dimension}.json", kept.sealed_json(record, DIMENSION, of=dimension))
    return value


def _digest(clips: Sequence[Clip], *, mode: str) -> str:
    said = [VBENCH, mode, sorted((clip.name, clip.prompt, clip.sha256) for clip in clips)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _verify(clip: Clip) -> None:
    """FFmpeg reads a damaged or truncated file without complaint, and vbench would score it."""
    if sha256(clip.path) != clip.sha256:
        raise StoreError(
            "the file is damaged (it has another sha256 than when it was made)",
            place=str(clip.path),
            fix="run the command that made it again to redo it",
        )


def _linked(clips: Sequence[Clip], folder: Path) -> Path:
    folder.mkdir()
    for clip in clips:
        (folder / clip.name).symlink_to(clip.path.absolute())
    return folder


def _ask(
    request: dict[str, Any],
    *,
    scratch: Path,
    log: Path,
    to: Path,
    look: Callable[[], None],
    gpu: str,
) -> dict[str, Any]:
    """The worker's response; {} if it died without one."""
    asked, answered = scratch.absolute() / "request.json", scratch.absolute() / "response.json"
    asked.write_text(json.dumps(request), encoding="utf-8")
    command = [str(to), "-I", "-X", "utf8", str(_WORKER), str(asked), str(answered)]
    with open(log, "wb") as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=scratch,
                env=os.environ | _visible(gpu),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise MissingAssetError(
                f"{to} cannot be run ({error.strerror})",
                place="vbench",
                fix=f"run {installed.MAKING}",
            ) from None
        _wait(process, look)  # vbench exits with 0 after a failure: what counts is the response
    try:
        response = json.loads(answered.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return response if isinstance(response, dict) else {}


def _visible(gpu: str) -> dict[str, str]:
    """What leaves a process one GPU, as parts of vbench take the first that they see; "" all."""
    if not gpu:
        return {}
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {"CUDA_VISIBLE_DEVICES": seen.split(",")[int(gpu)] if seen else gpu}


def _wait(process: subprocess.Popen[bytes], look: Callable[[], None]) -> None:
    """Until a process ends, looking now and then; it does not outlive us."""
    with process:
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL)
                look()
        except BaseException:
            process.kill()
            raise


def _looker(
    log: Path, clips: Sequence[Clip], progress: Callable[[int], object]
) -> Callable[[], None]:
    """What finds in the log how many clips are scored, and tells when it is another number."""
    totals = {len(clips), len({clip.prompt for clip in clips})}
    told = 0

    def look() -> None:
        nonlocal told
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            bars = [(int(done), int(total)) for done, total in _BAR.findall(file.read())]
        shares = [done / total for done, total in bars if total in totals]
        if shares and (now := int(shares[-1] * len(clips))) != told:
            told = now
            progress(now)

    return look


def _value(response: dict[str, Any], dimension: str, *, log: Path) -> float:
    """The score in a response, or the error it stands for."""
    value = response.get("score")
    if isinstance(value, float | int) and math.isfinite(value):
        return float(value)
    said = response.get("error") or _last_line(log) or "it said nothing"
    place, seen = f"vbench.{dimension}", f"{log} has all it printed"
    if not response.get("missing"):
        raise SkipditError(f"vbench failed: {said}", place=place, fix=seen)
    fix = "install detectron2 from its source into VBench's environment"
    if "detectron2" not in said:
        fix = f"vbench fetches its weights itself, which needs the network; {seen}"
    raise MissingAssetError(f"vbench cannot run: {said}", place=place, fix=fix)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip()[:500] for line in reversed(lines) if line.strip()), "")
