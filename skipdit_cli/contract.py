"""Contracts: what a file of a kind has to hold, as a Protocol, and how a file is held to it.

A contract is the Protocol in the `__init__.py` of a folder. In it

- a function that is abstract, and a constant without a value, are required;
- any other part may be left out of a file and is then the contract's own;
- a function takes the contract's arguments; those that are keyword-only may be left out, and are
  not passed then.
"""

import functools
from collections.abc import Callable
from inspect import Parameter, signature
from types import ModuleType
from typing import Any, Protocol


class Registered(Protocol):
    """What every loaded file has, whatever its kind."""

    @property
    def name(self) -> str:
        """As on the command line."""

    def has(self, part: str) -> bool:
        """Whether the file itself has a part of the contract that may be left out."""


class Plugin:
    """A file that keeps its folder's contract, with the contract's parts for those that it lacks.

    Attributes:
        kind, name: the folder, and the name on the command line.
        module: what was imported.

    Args:
        load: (kind, name) -> the plugin, in another process.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        module: ModuleType,
        contract: type,
        load: Callable[..., Any],
    ) -> None:
        self.kind, self.name, self.module, self._contract = kind, name, module, contract
        self._load = load

    def has(self, part: str) -> bool:
        """Whether the file itself has a part of the contract that may be left out."""
        return hasattr(self.module, part)

    def __getattr__(self, part: str) -> Any:
        if part.startswith("_"):
            raise AttributeError(part)
        default = getattr(self._contract, part, None)
        if hasattr(self.module, part):
            own = getattr(self.module, part)
            return _given_what_it_takes(own, default) if callable(default) else own
        if hasattr(self._contract, part):
            return functools.partial(default, self) if callable(default) else default
        raise AttributeError(f"{self.name} has no {part}")

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return self._load, (self.kind, self.name)  # a module does not travel between processes

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"


def check(module: ModuleType, contract: type) -> str:
    """What a module lacks of a contract, in one line; "" where it keeps it.

    A contract may have rules over several parts: a static method `rules(module)` that gives such a
    line or "".
    """
    for part in _required(contract):
        if not hasattr(module, part):
            return f"`{part}` is missing"
    for part in dir(contract):
        declared, own = getattr(contract, part), getattr(module, part, None)
        if part.startswith("_") or part == "rules" or own is None or not callable(declared):
            continue
        if not callable(own):
            return f"`{part}` is not a function"
        if problem := _other_arguments(own, declared):
            return f"`{part}` {problem}"
    rules = getattr(contract, "rules", None)
    return rules(module) if rules else ""


def _required(contract: type) -> list[str]:
    """Constants that are declared without a value, then the abstract functions."""
    declared = {name for base in contract.__mro__ for name in getattr(base, "__annotations__", {})}
    constants = sorted(name for name in declared if not hasattr(contract, name))
    return constants + sorted(getattr(contract, "__abstractmethods__", ()))


def _other_arguments(own: Callable, declared: Callable) -> str:
    """How a function's arguments differ from what it is called with, "" where they do not."""
    wanted = list(signature(declared).parameters.values())[1:]  # without self
    try:
        taken = signature(own).parameters
    except ValueError:  # a builtin says nothing of its arguments
        return ""
    positional = [each.name for each in wanted if each.kind is not Parameter.KEYWORD_ONLY]
    keyword = [each.name for each in wanted if each.kind is Parameter.KEYWORD_ONLY]
    places = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ours = [each.name for each in taken.values() if each.kind in places]
    more = [
        each.name
        for each in taken.values()
        if each.default is Parameter.empty
        and each.kind in (*places, Parameter.KEYWORD_ONLY)
        and each.name not in (*ours[: len(positional)], *keyword)
    ]
    variadic = any(each.kind is Parameter.VAR_POSITIONAL for each in taken.values())
    if (len(ours) >= len(positional) or variadic) and not more:
        return ""
    takes, called = ", ".join(ours + [each for each in more if each not in ours]), positional
    return f"takes ({takes}) and is called with ({', '.join(called)})"


@functools.cache
def _given_what_it_takes(own: Callable, declared: Callable) -> Callable:
    """The function, without the keyword-only arguments of the contract that it leaves out."""
    try:
        taken = signature(own).parameters
    except ValueError:
        return own
    if any(each.kind is Parameter.VAR_KEYWORD for each in taken.values()):
        return own
    left_out = {
        each.name
        for each in signature(declared).parameters.values()
        if each.kind is Parameter.KEYWORD_ONLY and each.name not in taken
    }
    if not left_out:
        return own

    @functools.wraps(own)
    def called(*args: Any, **kwargs: Any) -> Any:
        return own(*args, **{key: kwargs[key] for key in kwargs if key not in left_out})

    return called
