"""What there is, by folder: a file `caches/skip_cache.py` is the cache `skip-cache`.

The folder listing is the registry, so adding a method, model family, sampler or metric means adding
one file, or a package of its name. Other distributions add theirs by entry points in the groups
`skipdit.caches`, `skipdit.models`, `skipdit.samplers` and `skipdit.metrics` (name = module), and a
folder of YAML by `skipdit.recipes` (any name = package).

Names and summaries are read without importing anything (a summary is the first line of the file's
docstring); `load` imports the one module that is asked for and checks it against the contract of
its kind, the Protocol in the folder's `__init__.py` (`contract.py` says how).

File names use `_` where names use `-`, and `_at_` where names use `@` (`fid_at_digits.py` is
`fid@digits`).
"""

import ast
import functools
import hashlib
import re
import tokenize
from importlib import import_module
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Literal, overload

from skipdit_cli.contract import Plugin, check
from skipdit_cli.errors import SkipditError, UsageError, lacks_memory, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from skipdit_cli.caches import Method
    from skipdit_cli.metrics import Metric
    from skipdit_cli.models import Family
    from skipdit_cli.samplers import Sampler

CONTRACTS = {"caches": "Method", "models": "Family", "samplers": "Sampler", "metrics": "Metric"}
_GROUPS = {f"skipdit.{kind}" for kind in CONTRACTS}
_PACKAGE = Path(__file__).parent


def names(kind: str) -> list[str]:
    """The names of one kind, in alphabetical order.

    Args:
        kind: "models" (the families), "caches", "samplers" or "metrics", as everywhere here.
    """
    return sorted({*_own(kind), *_foreign(kind)})


def summary(kind: str, name: str) -> str:
    """The first docstring line of the file behind a name; no more of the file is read."""
    try:
        with tokenize.open(_file(kind, name)) as file:
            for token in tokenize.generate_tokens(file.readline):
                if token.type == tokenize.STRING:
                    return cleandoc(ast.literal_eval(token.string)).split("\n")[0]
                if token.type not in (tokenize.COMMENT, tokenize.NL):
                    break
    except (SkipditError, OSError, SyntaxError, tokenize.TokenError) as error:
        return f"cannot be read: {error}"
    return ""


@overload
def load(kind: Literal["caches"], name: str, *, place: str = "") -> "Method": ...
@overload
def load(kind: Literal["models"], name: str, *, place: str = "") -> "Family": ...
@overload
def load(kind: Literal["samplers"], name: str, *, place: str = "") -> "Sampler": ...
@overload
def load(kind: Literal["metrics"], name: str, *, place: str = "") -> "Metric": ...
def load(kind: str, name: str, *, place: str = "") -> Any:
    """Import the file behind a name; `vbench.scene` is a part of `vbench`, and in its file.

    Raises:
        UsageError: the name is not known; the nearest known one is named.
        SkipditError: the file cannot be imported, or does not keep the contract of its kind.
    """
    whole, _, part = name.partition(".")
    if whole not in names(kind):
        raise unknown(kind.rstrip("s"), name, names(kind), place=place)
    plugin = _load(kind, whole)
    parts = plugin.PARTS if kind == "metrics" else ()
    if part and part not in parts:
        known_parts = [f"{whole}.{each}" for each in parts]
        raise unknown(kind.rstrip("s"), name, known_parts or names(kind), place=place)
    return plugin


def label(metric: str) -> str:
    """What a metric is called for people: `LABEL`, and which part of it, if it is one."""
    part = metric.partition(".")[2].replace("_", " ")
    return f"{load('metrics', metric).LABEL} {part}".strip()


def known(kind: Literal["caches", "models", "samplers", "metrics"], name: str) -> bool:
    """Whether `load` would find a name; only for a part of something is that imported."""
    if "." not in name:
        return name in names(kind)
    try:
        load(kind, name)
    except UsageError:
        return False
    return True


def foreign(kind: str) -> list[str]:
    """The names of one kind that other distributions add."""
    return sorted(_foreign(kind))


def source_hash(kind: str, name: str) -> str:
    """16 hex digits of the source of a file from another distribution; "" for one of this one.

    Of a package it is that of its `__init__.py`.
    """
    if name in _own(kind):
        return ""
    return hashlib.sha256(_file(kind, name).read_bytes()).hexdigest()[:16]


@functools.cache
def version(kind: str, name: str) -> int | str:
    """What tells the code behind a name from what it was when it gave other results.

    The VERSION of a file of this package, 1 where it states none; of another distribution's file
    the hash of its source. Nothing is imported.
    """
    if foreign_source := source_hash(kind, name):
        return foreign_source
    stated = re.search(r"^VERSION = (\d+)", _file(kind, name).read_text("utf-8"), re.MULTILINE)
    return int(stated[1]) if stated else 1


def blamed(error: BaseException) -> SkipditError | None:
    """An error that the code of another distribution raised, with its file and line; else None.

    The innermost call decides that is of such code or of this package.
    """
    if isinstance(error, SkipditError) or lacks_memory(error):
        return None
    announced = {point.module for (group, _), point in _announced().items() if group in _GROUPS}
    others = {module.partition(".")[0] for module in announced} - {__package__}
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        owner = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if owner == __package__:
            return None
        if owner in others:
            problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            place = f"{frame.f_code.co_filename}, line {line}"
            return SkipditError(problem, place=place, fix="mend the file")
    return None


def folders(group: str) -> dict[str, Path]:
    """The folders that other distributions announce in an entry point group, by its names.

    Args:
        group: "skipdit.recipes".
    """
    places = {}
    for name, point in sorted(_entry_points(group).items()):
        spec = _find(point)
        places[name] = Path(spec.submodule_search_locations[0])
    return places


def _stem(name: str) -> str:
    return name.replace("@", "_at_").replace("-", "_")


def _name(stem: str, kind: str) -> str:
    stem = stem.replace("_at_", "@")
    return stem if kind == "models" else stem.replace("_", "-")


def _own(kind: str) -> list[str]:
    """The names of the files of this package."""
    return [_name(stem, kind) for stem in _stems(_PACKAGE / kind)]


@functools.cache
def _stems(folder: Path) -> tuple[str, ...]:
    packages = (path.parent for path in folder.glob("[!_]*/__init__.py"))
    return tuple(path.stem for path in (*folder.glob("[!_]*.py"), *packages))


def _foreign(kind: str) -> "dict[str, EntryPoint]":
    """What other distributions add; a name of this package stays this package's."""
    ours = _own(kind)
    return {name: at for name, at in _entry_points(f"skipdit.{kind}").items() if name not in ours}


def _entry_points(group: str) -> "dict[str, EntryPoint]":
    return {name: point for (where, name), point in _announced().items() if where == group}


@functools.cache
def _announced() -> "dict[tuple[str, str], EntryPoint]":
    """What distributions announce for this one, by group and name; the first on the path counts."""
    from importlib.metadata import distributions

    points: dict[tuple[str, str], EntryPoint] = {}
    for distribution in distributions():
        for point in distribution.entry_points:
            if point.group.startswith("skipdit."):
                points.setdefault((point.group, point.name), point)
    return points


def _find(point: "EntryPoint") -> Any:
    """The import spec of what an entry point names, which is not imported (its parents are)."""
    try:
        spec = find_spec(point.module)
    except Exception:  # whatever the package's own __init__ raises
        spec = None
    if spec is None:
        raise SkipditError(
            f"no module {point.module}",
            place=f"entry point {point.name} of {point.group}",
            fix="install the package again, or remove it",
        )
    return spec


def _module_name(kind: str, name: str) -> str:
    if name in _own(kind):
        return f"skipdit_cli.{kind}.{_stem(name)}"
    return _foreign(kind)[name].module


def _file(kind: str, name: str) -> Path:
    """The source behind a name."""
    if name not in _own(kind):
        return Path(_find(_foreign(kind)[name]).origin)
    path = _PACKAGE / kind / f"{_stem(name)}.py"
    return path if path.is_file() else path.with_suffix("") / "__init__.py"


@functools.cache
def _load(kind: str, name: str) -> Plugin:
    contract = getattr(import_module(f"skipdit_cli.{kind}"), CONTRACTS[kind])
    path = _file(kind, name)
    place = f"{kind}/{path.name}" if name in _own(kind) else str(path)
    try:
        module = import_module(_module_name(kind, name))
    except SkipditError as error:
        where, fix = error.place or place, error.fix
        raise SkipditError(error.problem, place=where, fix=fix) from None
    except Exception as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise SkipditError(
            f"cannot be imported ({type(error).__name__}: {error})",
            place=f"{place}{where}",
            fix="mend the file",
        ) from error
    if problem := check(module, contract):
        raise SkipditError(
            problem, place=place, fix=f"the contract is {contract.__name__} in skipdit_cli/{kind}"
        )
    return Plugin(kind, name, module=module, contract=contract, load=load)
