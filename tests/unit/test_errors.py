"""Errors are one line each, with place, value and fix, and keep all three between processes."""

import inspect
import pickle
import re
import warnings

import pytest

from skipdit_cli import errors
from skipdit_cli.errors import (
    MissingAssetError,
    SkipditError,
    SkipditWarning,
    StoreError,
    UsageError,
    placed,
    print_warnings,
    shortened,
    unknown,
    warn,
)

CODES = {
    "SkipditError": 1,
    "UsageError": 2,
    "IncompleteError": 3,
    "MissingAssetError": 4,
    "ToleranceError": 5,
    "StoreError": 1,
}


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = dict(re.findall(r"(\w+Error)\s+(\d)", errors.__doc__))
    assert {name: int(code) for name, code in drawn.items()} == CODES
    found = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, SkipditError)
    }
    assert found == CODES
    parents = {name: getattr(errors, name).__base__ for name in CODES}
    assert parents.pop("SkipditError") is Exception
    assert set(parents.values()) == {SkipditError}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "n=0 is wrong"),
        ({"place": "--n"}, "--n: n=0 is wrong"),
        ({"fix": "take 2"}, "n=0 is wrong; take 2"),
        ({"place": "a.yaml rows[3]", "fix": "take 2"}, "a.yaml rows[3]: n=0 is wrong; take 2"),
    ],
)
def test_place_problem_and_fix_on_one_line(arguments, text):
    assert str(UsageError("n=0 is wrong", **arguments)) == text


def test_a_message_with_line_breaks_is_still_one_line():
    error = SkipditError("first\nsecond", place="a\nb", fix="c\nd")
    assert str(error) == "a b: first second; c d"


@pytest.mark.parametrize("kind", [UsageError, MissingAssetError, StoreError])
def test_an_error_travels_between_processes(kind):
    error = pickle.loads(pickle.dumps(kind("full", place="/disk", fix="free some")))
    assert type(error) is kind
    assert (error.problem, error.place, error.fix) == ("full", "/disk", "free some")
    assert str(error) == "/disk: full; free some"


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ("foar", "did you mean 'fora'?"),
        ("fora2", "did you mean 'fora'?"),
        ("pba", "did you mean 'pab'?"),
        ("qqqq", "known: delta-dit, fora, pab"),
        ("", "known: delta-dit, fora, pab"),
    ],
)
def test_did_you_mean(value, fix):
    error = unknown("cache", value, {"pab": 1, "fora": 2, "delta-dit": 3}, place="rows[3].cache")
    assert isinstance(error, UsageError)
    assert str(error) == f"rows[3].cache: unknown cache '{value}'; {fix}"


def test_nothing_to_mean():
    assert str(unknown("setting of none", "n", [])) == (
        "unknown setting of none 'n'; there are none"
    )


@pytest.mark.parametrize(("own", "place"), [("", "a.yaml"), ("a.yaml rows[3]", "a.yaml rows[3]")])
def test_an_error_gets_a_place_where_it_has_none(own, place):
    with pytest.raises(UsageError) as caught, placed("a.yaml"):
        raise UsageError("n=0 is wrong", place=own, fix="take 2")
    assert str(caught.value) == f"{place}: n=0 is wrong; take 2"
    assert pickle.loads(pickle.dumps(caught.value)).place == place


def test_a_failure_that_is_no_mistake_of_the_user_keeps_its_place():
    with pytest.raises(StoreError) as caught, placed("a.yaml"):
        raise StoreError("full")
    assert caught.value.place == ""


def test_a_warning_is_one_line_on_stderr_and_told_once(capsys):
    others = []
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = lambda message, *where, **more: others.append(str(message))
        print_warnings()
        for _ in range(2):
            warn("sample 3 is damaged", place="a\nb", fix="it is made again")
        warnings.warn("somebody else's", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == (
        "skipdit: warning: a b: sample 3 is damaged; it is made again\n"
    )
    assert others == ["somebody else's"]


def test_a_warning_is_an_error_where_warnings_are():
    with pytest.raises(SkipditWarning, match="a: b; c"):
        warn("b", place="a", fix="c")


def test_a_warning_is_printed_once_whatever_happens_to_the_filters(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        print_warnings()
        for text in ("one", "one", "two", "one"):
            with warnings.catch_warnings():  # Python then forgets what it has shown
                warn(text)
    assert capsys.readouterr().err == "skipdit: warning: one\nskipdit: warning: two\n"


def test_long_texts_show_how_they_begin_and_end():
    assert shortened(" a\n b ") == "a b"
    assert shortened("x" * 64) == "x" * 64
    long = shortened("begin " + "word " * 1000 + "end")
    assert len(long) <= 65
    assert long.startswith("begin word ")
    assert long.endswith(" word end")
