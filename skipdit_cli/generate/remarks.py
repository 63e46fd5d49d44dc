"""What diffusers and transformers remark on a call of a pipeline: each kind once, in a line."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARIES = ("diffusers", "transformers")
MOST, KIND = 200, 60  # characters that are shown, and that two remarks of a kind begin with alike
NEEDLESS = "Token indices sequence length"  # of a text that is cut then, which is told too


class Brief(logging.Filter):
    """Lets a remark pass if it is the first of its kind, and shortens it; errors pass as they are.

    With long prompts there are some of every batch, each with all of the text that is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, logging.LogRecord] = {}  # by how they begin: every handler asks

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        text = " ".join(record.getMessage().split())
        if text.startswith(NEEDLESS) or self._told.setdefault(text[:KIND], record) is not record:
            return False
        record.msg, record.args = text if len(text) <= MOST else f"{text[:MOST]} ...", ()
        return True


_BRIEF = Brief()  # of this process


@contextmanager
def brief() -> Iterator[None]:
    """Remarks of both libraries in the block are `Brief`."""
    handlers = [each for name in LIBRARIES for each in logging.getLogger(name).handlers]
    for each in handlers:
        each.addFilter(_BRIEF)
    try:
        yield
    finally:
        for each in handlers:
            each.removeFilter(_BRIEF)
