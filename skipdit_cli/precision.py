"""Precision: the numbers that weights are held in, and how float32 ones are multiplied.

float32     strict
tf32        float32 weights; a GPU that can multiplies them in TF32, others strictly
float16     weights and products
bfloat16    weights and products
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
# Of the weights of a pipeline's transformers, by torchao: its configuration of each.
QUANTIZATIONS = {
    "int8": "Int8WeightOnlyConfig",
    "int8-dynamic": "Int8DynamicActivationInt8WeightConfig",
    "float8": "Float8WeightOnlyConfig",
}
_FINER = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul")  # from torch 2.9 on


def dtype_of(precision: str) -> str:
    """The name of the torch dtype that weights and hidden states have."""
    return "float32" if precision == "tf32" else precision


def bytes_of(precision: str) -> int:
    """How many bytes a number takes."""
    return 4 if dtype_of(precision) == "float32" else 2


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Compute float32 products and convolutions in TF32, for `tf32`, or strictly, for the others.

    What a network of 16 bits keeps in float32 is multiplied strictly. torch's flags are of the
    process, not of a thread: two threads cannot compute in two precisions side by side. In the end
    the flags are what they were.
    """
    import torch

    coarse, cudnn = _tolerated(torch.get_float32_matmul_precision), torch.backends.cudnn
    allowed = _tolerated(lambda: cudnn.allow_tf32)
    finer = [(backend, backend.fp32_precision) for backend in _finer()]
    # all of them: torch.compile cannot read the coarse two where only the finer ones are set, and
    # the finer ones may be inherited from flags above them where only the coarse two are set
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    cudnn.allow_tf32 = precision == "tf32"
    for backend, _ in finer:
        backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        if coarse is not None:
            torch.set_float32_matmul_precision(coarse)
        if allowed is not None:
            cudnn.allow_tf32 = allowed
        for backend, value in finer:
            backend.fp32_precision = value


def _tolerated(read: Any) -> Any:
    """A flag, or None where it cannot say what a finer one was set to, which torch refuses."""
    with suppress(RuntimeError):
        return read()
    return None


def _finer() -> list[Any]:
    """The backends of torch that have a flag `fp32_precision`; none before torch 2.9."""
    import torch

    found = []
    for name in _FINER:
        backend: Any = torch.backends
        for part in name.split("."):
            backend = getattr(backend, part, None)
        if hasattr(backend, "fp32_precision"):
            found.append(backend)
    return found
