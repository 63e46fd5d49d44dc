"""GPUs: how fast each is taken to be until it is measured, and its memory.

The rates of A100 and H100 are assumptions about networks such as these. They are a share of what
NVIDIA's data sheets give as peak without sparsity (A100: 19.5 TFLOP/s in float32, 156 in TF32, 312
in half precision; H100 SXM: 67, 495 and 989): 0.82 and 0.72 in float32, 0.45 and 0.44 in TF32, 0.38
and 0.33 in half precision. H200 has the chip of H100 and more memory. The other GPUs are taken to
reach the share of their peak that H100 does; of cards for games that rule would make half precision
slower than float32, so that there are none. `skipdit profile --calibrate` measures a machine, and
what it measured comes before this table (`rates.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from skipdit_cli.errors import unknown

SHARES = {"float32": 48 / 67, "tf32": 220 / 495, "float16": 330 / 989, "bfloat16": 330 / 989}
_A100 = {"float32": 16.0, "tf32": 70.0, "float16": 120.0, "bfloat16": 120.0}
_H100 = {"float32": 48.0, "tf32": 220.0, "float16": 330.0, "bfloat16": 330.0}


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        label: as people call it.
        memory: bytes; of A100 there are also cards with 40 GB, of V100 with 16.
        rates: precision -> TFLOP/s that are assumed; none where it has no such products.
        source: where these come from.
    """

    label: str
    memory: float
    rates: Mapping[str, float]
    source: str


def _by_share(**peaks: float) -> dict[str, float]:
    """Rates from the peaks of a data sheet, in TFLOP/s without sparsity."""
    rates = {
        precision: float(f"{peak * SHARES[precision]:.2g}") for precision, peak in peaks.items()
    }
    return rates | {"tf32": max(rates["float32"], rates.get("tf32", 0))}  # it is never slower


GPUS: Mapping[str, Gpu] = {
    "a100": Gpu("A100", 80e9, _A100, "assumed, a share of NVIDIA's A100 data sheet"),
    "h100": Gpu("H100", 80e9, _H100, "assumed, a share of NVIDIA's H100 SXM data sheet"),
    "h200": Gpu("H200", 141e9, _H100, "assumed as H100, whose chip it has"),
    "l40s": Gpu(
        "L40S",
        48e9,
        _by_share(float32=91.6, tf32=183, float16=362, bfloat16=362),
        "assumed, a share of NVIDIA's L40S data sheet",
    ),
    "v100": Gpu(  # it has no TF32, so that float32 is what tf32 gives, and no bfloat16
        "V100",
        32e9,
        _by_share(float32=15.7, float16=125),
        "assumed, a share of NVIDIA's V100 SXM2 data sheet",
    ),
}


def known(name: str, *, place: str = "--gpu") -> str:
    """The name of a GPU in the table, from what a person wrote.

    Raises:
        UsageError: there is none of this name; the nearest one is named.
    """
    plain = _plain(name)
    if plain not in GPUS:
        raise unknown("GPU", name, (*GPUS, "cpu"), place=place)
    return plain


def of_device(name: str) -> str | None:
    """The GPU in the table that a device is, by the name that torch gives it.

    >>> of_device("NVIDIA H100 80GB HBM3"), of_device("Tesla V100-SXM2-32GB")
    ('h100', 'v100')
    """
    return next((gpu for gpu in GPUS if gpu in _plain(name)), None)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
