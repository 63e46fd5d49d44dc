"""skipdit report --check, as a user runs it."""

import json
import shutil

import pytest

from skipdit_cli import published
from skipdit_cli import recipe as recipes


def test_the_flops_of_table3_match_without_weights(skipdit):
    done = skipdit("report table3 --scale paper --check").ok()
    assert "14 of 92 published values compared, 14 within tolerance" in done.out
    assert "78 needs weights" in done.out.splitlines()[-1]


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """changed(old, new): table3's published values with one text replaced."""

    def change(old, new):
        folder = shutil.copytree(published.folder(), tmp_path / "published")
        text = (folder / "table3.csv").read_text()
        assert text.count(old) == 1
        (folder / "table3.csv").write_text(text.replace(old, new))
        monkeypatch.setattr(published, "folder", lambda: folder)
        published.lines.cache_clear()

    yield change
    monkeypatch.undo()
    published.lines.cache_clear()


def test_a_changed_published_value_is_found(skipdit, changed):
    changed("852.38", "852.98")
    command = "report table3 --scale paper --check"
    skipdit(command).failed(
        5,
        "table3 at paper scale: 1 of 14 compared cells is outside tolerance, first",
        "Skip-Cache n=3, 800-50, FLOPs (T): paper 852.98, ours 852.376, 0.071 % apart",
        "tolerance 0.05 %",
        "`skipdit plan table3 --scale paper`",
    )
    done = skipdit(f"{command} --json")
    assert done.code == 5
    content = json.loads(done.out)
    assert content["check"]["compared"] == 14
    assert [each["paper"] for each in content["check"]["outside"]] == [852.98]
    assert len(content["rows"]) == 16


def test_a_narrower_tolerance_is_found(skipdit, tmp_path):
    text = (recipes.folder() / "table3.yaml").read_text()
    assert "tolerance: 0.0005" in text
    (tmp_path / "mine.yaml").write_text(text.replace("tolerance: 0.0005", "tolerance: 0.00005"))
    done = skipdit("report mine.yaml --scale paper --check")
    done.failed(5, "of 14 compared cells are outside", "first FORA, FLOPs (T): paper 1341.72")
    assert "| FORA" in done.out  # the table is printed all the same


def test_nothing_to_compare_at_tiny_scale(skipdit):
    done = skipdit("report table4 --scale tiny --check")
    done.failed(3, "table4 at tiny scale: no number to compare", "tiny scale", "--scale paper")
    skipdit("report smoke --scale tiny --check").failed(2, "--check: smoke is of no table")
    assert json.loads(skipdit("report smoke --scale tiny --json").ok().out).keys() == {
        "rows",
        "files",
    }
