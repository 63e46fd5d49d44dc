"""What a file is told that does not keep its folder's contract, on a contract made up for it."""

from abc import abstractmethod
from types import ModuleType
from typing import Any, Protocol

import pytest

from skipdit_cli import contract


class Painter(Protocol):
    """A constant and a function that have to be there, and one that may be left out."""

    LABEL: str

    @abstractmethod
    def paint(self, x: int, y: int, *, seed: int) -> int: ...

    def clean(self, x: int) -> int:
        return x


class Strict(Painter, Protocol):
    @staticmethod
    def rules(module: ModuleType) -> str:
        return "" if module.LABEL.isupper() else "LABEL is in capitals"


def file(**parts: Any) -> ModuleType:
    module = ModuleType("painter")
    vars(module).update({"LABEL": "OIL", "paint": lambda x, y, *, seed: 0} | parts)
    return module


def lacking(part: str) -> ModuleType:
    module = file()
    delattr(module, part)
    return module


@pytest.mark.parametrize("part", ["LABEL", "paint"])
def test_a_part_that_has_to_be_there(part):
    assert contract.check(lacking(part), Painter) == f"`{part}` is missing"


@pytest.mark.parametrize(
    "paint",
    [
        lambda x, y, *, seed: 0,
        lambda a, b: 0,  # keyword-only arguments of the contract may be left out
        lambda x, y, seed: 0,  # or be taken by place too
        lambda x, y, z=1: 0,
        lambda x, y, *, z=1: 0,
        lambda *everything: 0,
        lambda x, *others, seed: 0,
        max,  # a builtin that says nothing of its arguments
    ],
)
def test_arguments_that_fit(paint):
    assert contract.check(file(paint=paint), Painter) == ""
    assert contract.check(file(paint=paint, clean=lambda x: 0), Painter) == ""


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"paint": 3}, "`paint` is not a function"),
        ({"clean": "x"}, "`clean` is not a function"),
        ({"paint": lambda x: 0}, "`paint` takes (x) and is called with (x, y)"),
        ({"paint": lambda x, *, z: 0}, "`paint` takes (x, z) and is called with (x, y)"),
        ({"paint": lambda x, y, z: 0}, "`paint` takes (x, y, z) and is called with (x, y)"),
        ({"paint": lambda x, y, *, z: 0}, "`paint` takes (x, y, z) and is called with (x, y)"),
        ({"paint": lambda *all, z: 0}, "`paint` takes (z) and is called with (x, y)"),
        ({"clean": lambda: 0}, "`clean` takes () and is called with (x)"),
    ],
)
def test_what_is_no_function_or_takes_other_arguments(parts, told):
    assert contract.check(file(**parts), Painter) == told


def test_rules_over_several_parts_come_last():
    assert contract.check(file(), Strict) == ""
    assert contract.check(file(LABEL="oil"), Strict) == "LABEL is in capitals"
    assert contract.check(file(LABEL="oil", paint=3), Strict) == "`paint` is not a function"
