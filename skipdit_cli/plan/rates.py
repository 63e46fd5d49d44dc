"""Rates: how many operations a second a machine does, measured on it or taken from a table.

What `skipdit profile --calibrate` measures is kept under the name of the device,
    $SKIPDIT_HOME/rates/DEVICE.json     {"device", "measured": [one per precision and model]}
and comes before the table of `gpus.py`. How fast a GPU is depends on how much it is given at a
time: a measurement counts for work that is at most ALIKE times as large or as small.
"""

import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import StoreError
from skipdit_cli.plan import gpus
from skipdit_cli.precision import dtype_of
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.storage.provenance import device_name

CPU = "cpu"
ALIKE = 100
_RATES = kept.Kind("measurement of rates", 1, fix="run `skipdit profile --calibrate` again")
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # one of them is there where a GPU is


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes:
        model: whose uncached loop was timed.
        work: floating-point operations of one call, of the whole batch.
        tflops: counted operations over measured time, in 1e12 a second.
    """

    precision: str
    model: str
    work: float
    tflops: float


@dataclass(frozen=True)
class Rate:
    """Operations a second, in 1e12, and where that is from."""

    tflops: float
    source: str


@dataclass(frozen=True)
class Machine:
    """What hours are given for.

    Attributes:
        label: "H100", or the name of the device where it is none of the table.
        gpu: its name in the table, CPU for a processor, "" for another GPU.
        measured: on this device, or on one of this kind.
    """

    label: str
    gpu: str
    measured: tuple[Measured, ...] = ()

    @property
    def memory(self) -> float | None:
        """Bytes, by the table."""
        return gpus.GPUS[self.gpu].memory if self.gpu in gpus.GPUS else None

    def rate(self, precision: str, *, model: str = "", work: float) -> Rate | None:
        """How fast products of a precision are; None where nobody knows.

        Args:
            model: a measurement on it comes first, then the one with the work that is nearest.
            work: floating-point operations of one call.
        """
        wanted = dtype_of(precision) if self.gpu == CPU else precision  # only GPUs have TF32
        near = [
            (each.model != model, distance, each)
            for each in self.measured
            if each.precision == wanted
            and (distance := abs(math.log(each.work / work))) <= math.log(ALIKE)
        ]
        if near:
            *_, best = min(near, key=lambda found: found[:2])
            return Rate(best.tflops, f"measured on {best.model}")
        known = gpus.GPUS.get(self.gpu)
        if known is None or precision not in known.rates:
            return None
        return Rate(known.rates[precision], known.source)


def machine(gpu: str | None = None) -> Machine:
    """The machine that a person means: by default the GPU that is here, or else this processor.

    Args:
        gpu: a name of the table, or "cpu".
    Raises:
        UsageError: no such GPU.
    """
    if gpu is not None and gpu.lower() != CPU:
        name = gpus.known(gpu)
        return Machine(gpus.GPUS[name].label, name, tuple(_measured(name)))
    device = gpu_here() if gpu is None else None
    if device is None:
        return Machine(device_name("cpu"), CPU, tuple(_read(_file(device_name("cpu")))))
    name = gpus.of_device(device) or ""
    own = tuple(_read(_file(device)))
    return Machine(gpus.GPUS[name].label if name else device, name, own or tuple(_measured(name)))


def gpu_here() -> str | None:
    """The name that torch gives the GPU that is here; None, without torch, where there is none."""
    if "torch" not in sys.modules and os.name == "posix" and not any(map(os.path.exists, _DRIVERS)):
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def keep(device: str, measured: Iterable[Measured]) -> Path:
    """Add measurements to those of a device; an older one of the same precision and model goes.

    Returns:
        The file.
    Raises:
        StoreError: the disk refuses.
    """
    path = _file(device)
    found = {(each.precision, each.model): each for each in (*_read(path), *measured)}
    content = {"device": device, "measured": [asdict(each) for each in found.values()]}
    write_whole(path, kept.sealed_json(content, _RATES, of=path.stem))
    return path


def _measured(gpu: str) -> Iterator[Measured]:
    """What was measured on devices of one kind."""
    for path in sorted(_folder().glob("*.json")) if gpu else ():
        if gpus.of_device(path.stem) == gpu:
            yield from _read(path)


def _read(path: Path) -> list[Measured]:
    """What a file says; nothing where it is absent, damaged or unreadable."""
    with suppress(StoreError), kept.damaged_is_absent():
        return kept.read_json(path, _parsed, _RATES, of=path.stem) or []
    return []


def _parsed(content: dict) -> list[Measured]:
    return [kept.shaped(Measured, each) for each in content["measured"]]


def _file(device: str) -> Path:
    return _folder() / f"{'-'.join(device.split()).replace('/', '-')[:80]}.json"


def _folder() -> Path:
    return local.home() / "rates"
