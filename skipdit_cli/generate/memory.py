"""A lack of memory, told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from skipdit_cli.errors import SkipditError


@contextmanager
def memory_checked(batch_size: int | None, *, scored: str = "") -> Iterator[None]:
    """Tell a lack of memory in the block, on a GPU or not, as an error for people.

    Args:
        batch_size: of the sampling; None while samples are scored.
        scored: how `skipdit evaluate` is told which these are.
    Raises:
        SkipditError: in place of what torch or Python raises for it.
    """
    import torch

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        lacking = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not lacking and "can't allocate memory" not in str(error):  # what a CPU's allocator says
            raise
        if batch_size is None:
            fix = f"score with `skipdit evaluate {scored} --device cpu`"
            raise SkipditError("out of memory while scoring", fix=fix) from None
        raise SkipditError(
            f"out of memory at batch size {batch_size}", fix="take a smaller --batch-size"
        ) from None
