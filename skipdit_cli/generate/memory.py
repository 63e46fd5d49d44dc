"""What goes wrong while something is computed, told in one line: a lack of memory, a plugin."""

from collections.abc import Iterator
from contextlib import contextmanager

from skipdit_cli import registry
from skipdit_cli.errors import SkipditError


@contextmanager
def memory_checked(batch_size: int | None) -> Iterator[None]:
    """Tell a lack of memory in the block, on a GPU or not, as an error for people.

    So is what the code of another distribution raises, with its file and line.

    Args:
        batch_size: of the sampling; None while samples are scored.
    Raises:
        SkipditError: in place of what torch or Python raises for it.
    """
    import torch

    try:
        yield
    except SkipditError:
        raise
    except Exception as error:
        lacking = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not lacking and "can't allocate memory" not in str(error):  # what a CPU's allocator says
            if blamed := registry.blamed(error):
                raise blamed from error
            raise
        if batch_size is None:
            fix = "score with `skipdit evaluate --device cpu`"
            raise SkipditError("out of memory while scoring", fix=fix) from None
        raise SkipditError(
            f"out of memory at batch size {batch_size}", fix="take a smaller --batch-size"
        ) from None
