"""Hours of the tables: which recipes have a line."""

from skipdit_cli.plan import tables


def test_what_is_no_table_of_the_paper_has_none():
    """A study of the embedded models has no paper scale, and a check no published table."""
    assert list(tables.lines(["forecasting", "smoke"])) == []
