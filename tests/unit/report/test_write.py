"""Report files: the formats asked for, whole or not at all."""

import os

import pytest

from skipdit_cli import report
from skipdit_cli.errors import StoreError, UsageError
from skipdit_cli.report import delimited, markdown


def test_both_formats_are_written(compared, tmp_path):
    files = report.write_table(compared, tmp_path / "new" / "folder", name="table0")
    assert files == [tmp_path / "new/folder/table0.md", tmp_path / "new/folder/table0.csv"]
    assert files[0].read_text(encoding="utf-8") == markdown.to_markdown(compared)
    assert files[1].read_text(encoding="utf-8") == delimited.to_csv(compared)


def test_only_the_formats_asked_for(compared, tmp_path):
    report.write_table(compared, tmp_path, name="table0", formats=["csv"])
    assert [path.name for path in tmp_path.iterdir()] == ["table0.csv"]


def test_an_unknown_format_names_the_nearest_and_writes_nothing(compared, tmp_path):
    with pytest.raises(UsageError, match="unknown report format 'cvs'; did you mean 'csv'"):
        report.write_table(compared, tmp_path, name="table0", formats=("md", "cvs"))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_report(compared, alone, tmp_path, monkeypatch):
    (file,) = report.write_table(alone, tmp_path, name="t", formats=["md"])
    before = file.read_bytes()

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"t\.md: no space left on device; free some"):
        report.write_table(compared, tmp_path, name="t", formats=["md"])
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_where_the_folder_should_be(compared, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(StoreError, match="taken: a file is where a folder should be"):
        report.write_table(compared, tmp_path / "taken", name="t")
    assert (tmp_path / "taken").read_text() == "mine"
