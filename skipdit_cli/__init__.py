"""recipe -> plan -> run (model + cache + sampler) -> samples -> measure -> results -> report.

Each arrow is one module with one public function; each data type is defined in the module that
produces it; nothing flows back. Importing this package imports nothing heavy.
"""

from skipdit_cli import _torchvision

__version__ = "0.1.0"

_torchvision.install()
