"""A file in which YAML reads something otherwise than people do is refused, with its line."""

import time

import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.recipe.yaml_events import DEEPEST, MOST
from skipdit_cli.recipe.yaml_file import read_yaml

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
)
CHAIN = "a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000))


@pytest.fixture
def read(tmp_path):
    def reading(text):
        (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
        return read_yaml(tmp_path / "mine.yaml", "mine.yaml")

    return reading


@pytest.mark.parametrize(
    ("text", "line", "parts"),
    [
        ("a: 1\nb: 010", 2, ["'010'", "the int 8", "in quotes"]),
        ("a: 1:30", 1, ["'1:30'", "the int 90"]),
        ("a: 1:30.5", 1, ["'1:30.5'", "the float 90.5"]),
        ("a: 1_000", 1, ["'1_000'", "the int 1000"]),
        ("a: 1_0.5", 1, ["'1_0.5'"]),
        ("a: 0x10", 1, ["'0x10'", "the int 16"]),
        ("a: 0b11", 1, ["'0b11'"]),
        (f"a: {'9' * 5000}", 1, ["999"]),
        ("a: .inf", 1, ["'.inf'"]),
        ("a: no", 1, ["'no'", "the bool False"]),
        ("a: On", 1, ["'On'", "the bool True"]),
        ("a: 2024-01-31", 1, ["'2024-01-31'", "the timestamp"]),
        ("a: 2024-31-31", 1, ["'2024-31-31'", "the kind timestamp"]),
        ("010: a", 1, ["'010'"]),
        ("=: a", 1, ["'='"]),
        ("a: 1\nb: 2\na: 3", 3, ["key 'a' occurs twice", "leave one of them out"]),
        ("a: {b: 1, c: [], b: 1}", 1, ["key 'b' occurs twice"]),
        ("'1': a\n1: b", 2, ["key '1' occurs twice"]),
        ("[a]: b", 1, ["a list or mapping is a key"]),
        ("a: !!bool abc", 1, ["tag", "leave it out"]),
        ("a: !!python/name:os.system x", 1, ["tag"]),
        ("a: !!set {x}", 1, ["tag"]),
        ("a: &a [*a]", 1, ["*a refers to nothing before it"]),
        ("a: " + "[" * 3000, 1, [f"more than {DEEPEST} levels"]),
        (CHAIN, DEEPEST, [f"more than {DEEPEST} levels"]),
        (BOMB, 5, [f"more than {MOST} values"]),
    ],
)
def test_what_people_do_not_mean(read, text, line, parts):
    begun = time.process_time()
    with pytest.raises(UsageError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith(f"mine.yaml line {line}: ")
    assert [part for part in parts if part not in message] == []
    assert len(message) < 800
    assert time.process_time() - begun < 5


def test_a_file_that_is_too_long(read):
    with pytest.raises(UsageError, match="more than 1000000 characters"):
        read("a: " + "x" * 1_000_000)


def test_what_people_mean(read):
    text = (
        "whole: [0, 8, -3, +4]\nparts: [0.5, .5, 1.0e+3, -2.]\ntruth: [true, False]\n"
        "nothing: [null, ~, '']\nempty:\ntexts: ['010', \"no\", 1e3, v1, 700-50, 2..6, '1:30']\n"
        "base: &base {a: 1, b: 2}\nmerged: {<<: *base, b: 3}\nagain: *base\n"
    )
    assert read(text) == {
        "whole": [0, 8, -3, 4],
        "parts": [0.5, 0.5, 1000.0, -2.0],
        "truth": [True, False],
        "nothing": [None, None, ""],
        "empty": None,
        "texts": ["010", "no", "1e3", "v1", "700-50", "2..6", "1:30"],
        "base": {"a": 1, "b": 2},
        "merged": {"a": 1, "b": 3},
        "again": {"a": 1, "b": 2},
    }
