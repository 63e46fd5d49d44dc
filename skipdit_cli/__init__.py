"""recipe -> plan -> run (model + cache + sampler) -> samples -> measure -> results -> report.

Each arrow is one module with one public function; each data type is defined in the module that
produces it; nothing flows back. Importing this package imports nothing heavy.

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
