"""Names of files: whatever a prompt holds, it stays in its folder and on any file system."""

import pytest

from skipdit_cli.errors import UsageError
from skipdit_cli.report.names import LONGEST, cut, fields_of, filled, numbered, safe

FIELDS = ("index", "prompt")


def test_names_by_hand():
    assert safe("a/b: two  lines\nand a dot.") == "a-b-two-lines-and-a-dot"
    assert safe("../../etc/passwd") == "etc-passwd"
    assert safe("a\\b|c*?<d>\x00\x7f") == "a-b-c-d"
    assert [safe("nul.png"), safe("COM1"), safe("console")] == ["_nul.png", "_COM1", "console"]
    assert [safe(""), safe("..."), safe("\ud800")] == ["_", "_", "_"]
    assert safe("e\u0301té") == "été"
    assert cut("äää", 5) == "ää"
    assert cut("a b", 2) == "a"
    assert numbered(["a", "A", "b", "a", "a-2"]) == ["a", "A-2", "b", "a-3", "a-2-2"]


def test_a_template_is_filled_in():
    assert filled("{index:04d}-{prompt}", {"index": 7, "prompt": "a/b"}, place="") == "0007-a-b"
    assert filled("x/{index}", {"index": 7}, place="") == "x-7"
    long = filled("{prompt}-{index:04d}", {"index": 7, "prompt": "ä" * 500}, place="")
    assert long == "ä" * 40 + "-0007"  # the rest of the name is not lost behind a long prompt
    assert len(filled("{prompt}" * 9, {"prompt": "ä" * 500}, place="").encode()) <= LONGEST


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{cash}", r"there is no field \{cash\}; there are \{index\}, \{prompt\}"),
        ("{}", "there is no field"),
        ("{0}", "there is no field"),
        ("{index.__class__}", "there is no field"),
        ("{prompt[0]}", "there is no field"),
        ("{index:{prompt}}", "there is no field"),
        ("{index", "cannot read"),
        ("index}", "cannot read"),
    ],
)
def test_a_field_that_there_is_not_is_told(template, said):
    with pytest.raises(UsageError, match=said):
        fields_of(template, FIELDS, place="--name")


@pytest.mark.parametrize("template", ["{prompt:04d}", "{index:%}x{index:q}", "{index:99999999999}"])
def test_a_form_that_does_not_fit_is_told(template):
    assert fields_of(template, FIELDS, place="") != []
    with pytest.raises(UsageError, match="--name: cannot fill in"):
        filled(template, {"index": 1, "prompt": "a"}, place="--name")
