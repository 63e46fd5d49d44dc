"""Lets a torchvision that was built for CUDA be imported beside a torch that was not.

Such a torchvision has no compiled operators (`operator torchvision::nms does not exist`), and the
module that describes them to the compiler fails; lpips, torch-fidelity, torchmetrics and much of
transformers fail with it. Nothing here uses these operators, so the failure of that one module is
passed over. Where torchvision is sound, its module runs as it is.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader  # which is slow to import, and imported with everything

MODULE = "torchvision._meta_registrations"


class _Tolerant:
    """A loader, of which that error is no error."""

    def __init__(self, loader: "Loader") -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.loader.exec_module(module)
        except RuntimeError as error:
            if "does not exist" not in str(error):
                raise


class _Finder:
    """Finds that module as usual, and has it loaded so."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        spec: Any = PathFinder.find_spec(name, path) if name == MODULE else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Tolerant(spec.loader)
        return spec


def install() -> None:
    """Pass over the failure of that module, from now on in this process; nothing is imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
