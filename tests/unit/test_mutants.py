"""The list of mistakes fits this tree. `make test-mutants` makes them."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

_spec = spec_from_file_location("mutants", Path(__file__).parents[1] / "mutants.py")
mutants = module_from_spec(_spec)
sys.modules["mutants"] = mutants  # dataclasses look their module up
_spec.loader.exec_module(mutants)

SOUND = {
    "name": "sound",
    "file": "skipdit_cli/cache.py",
    "find": 'NONE = "none"',
    "replace": 'NONE = "fora"',
    "tests": ["tests/unit/test_mutants.py::test_what_is_wrong_with_a_mistake[x]"],
    "why": "no run is uncached",
}


def test_every_mistake_can_still_be_made():
    listed = mutants.read()
    assert len(listed) >= 60
    assert [(each.name, why) for each in listed if (why := mutants.problem(each))] == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, ""),
        ({"file": "skipdit_cli/cash.py"}, "there is no skipdit_cli/cash.py"),
        ({"find": "NINE"}, "'NINE' is 0 times in skipdit_cli/cache.py, not once"),
        ({"file": "README.md", "find": "\n"}, "'\\n' is "),
        ({"replace": SOUND["find"]}, "it changes nothing, names no test or does not say why"),
        ({"tests": []}, "it changes nothing, names no test or does not say why"),
        ({"tests": ["tests/unit/test_none.py"]}, "there is no tests/unit/test_none.py"),
        (
            {"tests": ["tests/unit/test_mutants.py::test_no"]},
            "tests/unit/test_mutants.py has no test_no",
        ),
    ],
)
def test_what_is_wrong_with_a_mistake(fields, told):
    found = mutants.problem(mutants.Mutant(**SOUND | fields))
    assert (found[: len(told)], bool(found)) == (told, bool(told))


@pytest.fixture
def tree(tmp_path):
    """A tree of one module and one test, and a mistake in it."""
    (tmp_path / "module.py").write_text("VALUE = 1\n")
    (tmp_path / "test_it.py").write_text(
        "from module import VALUE\n\ndef test(): assert VALUE == 1\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    made = {"file": "module.py", "find": "1", "replace": "2", "tests": ["test_it.py"]}
    return tmp_path, mutants.Mutant(**SOUND | made)


@pytest.mark.parametrize(
    ("code", "told"),
    [(1, ""), (0, "survived"), (2, "its tests did not run (exit code 2):\nwhy")],
)
def test_only_tests_that_fail_notice_a_mistake(tree, monkeypatch, code, told):
    place, mutant = tree
    seen = []

    def run_tests(place, tests):
        seen.append((tests, (place / "module.py").read_text()))
        return code, "why"

    monkeypatch.setattr(mutants, "run_tests", run_tests)
    assert mutants.verdict(mutant, place) == told
    assert seen == [(["test_it.py"], "VALUE = 2\n")]
    assert (place / "module.py").read_text() == "VALUE = 1\n"


def test_the_tests_of_a_copy_see_the_copy(tree):
    place, mutant = tree
    assert mutants.verdict(mutant, place) == ""
