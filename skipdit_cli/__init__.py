"""recipe -> plan -> generate (model + cache + sampler) -> samples -> score -> results -> report.

Each arrow is a room, a folder whose `__init__.py` says what its files are; each data type is
defined where it is made; nothing flows back. The modules beside the rooms are the ground, words
that every room uses: `errors`, `contract` and `registry` (what there is, and what a file has to
hold), `sites`, `cache` and `spec` (caches, and how people write them), `run` (one generation in
full). Importing this package imports nothing heavy.

    skipdit_cli.frame("table3")    results as a pandas DataFrame
"""

from typing import TYPE_CHECKING, Any

from skipdit_cli import _torchvision

if TYPE_CHECKING:
    from skipdit_cli.report.frame import frame as frame

__version__ = "0.1.0"

_torchvision.install()


def __getattr__(name: str) -> Any:
    if name == "frame":
        from skipdit_cli.report.frame import frame

        return frame
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
