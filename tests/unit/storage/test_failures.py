"""Why something failed is on disk until it has not; sweeps and reports test what they keep."""

import pytest

from skipdit_cli.errors import SkipditWarning
from skipdit_cli.storage import failures


def test_a_damaged_record_is_none(tmp_path):
    path = tmp_path / "failures" / "abc" / "psnr.json"
    path.parent.mkdir(parents=True)
    for text in ("", "{}", "[]", '{"reason": 3}'):
        path.write_text(text)
        with pytest.warns(SkipditWarning, match="is not a readable failure"):
            assert failures.read_failure(tmp_path, "abc", "psnr") == ""
    failures.write_failure(tmp_path, "abc", "psnr", reason="no")
    assert failures.read_failure(tmp_path, "abc", "psnr") == "no"


def test_the_last_one_that_is_forgotten_leaves_no_folder(tmp_path):
    for what in ("psnr", "timing"):
        failures.write_failure(tmp_path, "abc", what, reason="no")
    failures.clear_failure(tmp_path, "abc", "psnr")
    assert failures.read_failure(tmp_path, "abc", "timing") == "no"
    failures.clear_failure(tmp_path, "abc", "timing")
    failures.clear_failure(tmp_path, "abc", "timing")  # there is none any more
    assert list((tmp_path / "failures").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_passed_over(tmp_path):
    (tmp_path / "failures").write_text("")
    failures.write_failure(tmp_path, "abc", "psnr", reason="no")
    with pytest.warns(SkipditWarning, match="a file is where a folder should be"):
        assert failures.read_failure(tmp_path, "abc", "psnr") == ""
