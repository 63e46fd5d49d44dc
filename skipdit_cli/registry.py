"""What there is, by folder: a file `caches/skip_cache.py` is the cache `skip-cache`.

The folder listing is the registry, so adding a method, model family, sampler or metric means adding
one file. Names and summaries are read without importing anything (a summary is the first line of
the file's docstring); `load` imports the one module that is asked for. File names use `_` where
names use `-`, and `_at_` where names use `@` (`fid_at_digits.py` is `fid@digits`).
"""

import ast
import inspect
import tokenize
from functools import cache, partial
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from types import ModuleType
from typing import Any

from skipdit_cli.errors import UsageError, unknown

_PACKAGE = Path(__file__).parent


def _stem(name: str) -> str:
    return name.replace("@", "_at_").replace("-", "_")


def _name(stem: str, kind: str) -> str:
    stem = stem.replace("_at_", "@")
    return stem if kind == "models" else stem.replace("_", "-")


def names(kind: str) -> list[str]:
    """The names of one kind, in alphabetical order.

    Args:
        kind: "models" (the families), "caches", "samplers" or "metrics", as everywhere here.
    """
    folder = _PACKAGE / kind
    files = [*folder.glob("[!_]*.py"), *(path.parent for path in folder.glob("[!_]*/__init__.py"))]
    return sorted(_name(path.stem, kind) for path in files)


def summary(kind: str, name: str) -> str:
    """The first docstring line of the file behind a name; no more of the file is read."""
    path = _PACKAGE / kind / f"{_stem(name)}.py"
    if not path.is_file():
        path = path.with_suffix("") / "__init__.py"
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type == tokenize.STRING:
                return cleandoc(ast.literal_eval(token.string)).split("\n")[0]
            if token.type not in (tokenize.COMMENT, tokenize.NL):
                break
    return ""


@cache
def load(kind: str, name: str, *, place: str = "") -> Any:
    """Import the module behind a name; `vbench.scene` is a part of `vbench`, and in its module.

    Raises:
        UsageError: the name is not known; the nearest known one is named.
    """
    whole, _, part = name.partition(".")
    if whole not in names(kind):
        raise unknown(kind.rstrip("s"), name, names(kind), place=place)
    module = import_module(f"skipdit_cli.{kind}.{_stem(whole)}")
    if kind == "metrics":
        _checked(module)
    if part and part not in getattr(module, "PARTS", ()):
        parts = [f"{whole}.{each}" for each in getattr(module, "PARTS", ())]
        raise unknown(kind.rstrip("s"), name, parts or names(kind), place=place)
    return module


def _checked(module: ModuleType) -> None:
    """Give a metric the optional parts that its file lacks, and look whether it keeps the rules."""
    contract = import_module("skipdit_cli.metrics")
    required = inspect.get_annotations(contract.Metric)
    for name, default in vars(contract.Metric).items():
        if name.startswith("_") or name in vars(module):
            continue
        setattr(module, name, partial(default, module) if callable(default) else default)
    if absent := [name for name in required if name not in vars(module)]:
        raise UsageError(f"has no {', '.join(absent)}", place=str(module.__file__))
    contract.check(module)


def known(kind: str, name: str) -> bool:
    """Whether `load` would find a name; only for a part of something is that imported."""
    if "." not in name:
        return name in names(kind)
    try:
        load(kind, name)
    except UsageError:
        return False
    return True
