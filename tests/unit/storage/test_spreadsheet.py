"""No text is taken for a formula, numbers stay numbers, and what was written is read back."""

import pytest

from skipdit_cli.storage.spreadsheet import csv_text, read_csv

FORMULAS = ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "-", "+", "=", "--1", "-n"]
HARMLESS = [
    "-3",
    "-0.5",
    "+2",
    "1e-9",
    "-1.5e+10",
    "-inf",
    "nan",
    "",
    "a=b",
    "'quoted",
    "2..6",
    "–",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_texts(text):
    assert csv_text([[text, 1]]).strip('"').startswith(f"'{text[0]}")
    assert read_csv(csv_text([[text, "x"]])) == [[text, "x"]]


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_other_texts_stay(text):
    assert csv_text([[text, "x"]]) == f"{text},x\n"
    assert read_csv(csv_text([[text, "x"]])) == [[text, "x"]]


def test_a_row_is_one_row():
    assert read_csv(csv_text([["a\rb", "c\nd", 'e"f']])) == [["a b", "c\nd", 'e"f']]


def test_values_that_are_no_texts():
    assert csv_text([(-1, -0.5, None)]) == "-1,-0.5,\n"
