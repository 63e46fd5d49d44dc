"""skipdit report --check, as a user runs it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from skipdit_cli.embedded import shipped
from skipdit_cli.recipe import published

ROOT = Path(__file__).parents[2]


def test_the_flops_of_table3_match_without_weights(skipdit):
    done = skipdit("report table3 --scale paper --check").ok()
    assert "14 of 92 published values compared, 14 within tolerance" in done.out
    assert "78 needs weights" in done.out.splitlines()[-1]


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """changed(old, new): table3's published values with one text replaced."""

    def change(old, new):
        folder = shutil.copytree(shipped.published(), tmp_path / "published")
        text = (folder / "table3.csv").read_text()
        assert text.count(old) == 1
        (folder / "table3.csv").write_text(text.replace(old, new))
        monkeypatch.setattr(shipped, "published", lambda: folder)
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
    text = (shipped.recipes() / "table3.yaml").read_text()
    assert "tolerance: 0.0005" in text
    (tmp_path / "mine.yaml").write_text(text.replace("tolerance: 0.0005", "tolerance: 0.00005"))
    done = skipdit("report mine.yaml --scale paper --check")
    done.failed(5, "of 14 compared cells are outside", "first FORA, FLOPs (T): paper 1341.72")
    assert "| FORA" in done.out  # the table is printed all the same


def test_nothing_to_compare_at_tiny_scale(skipdit):
    done = skipdit("report table4 --scale tiny --check")
    done.failed(3, "table4 at tiny scale: no number to compare", "tiny scale", "--scale paper")
    skipdit("report smoke --scale tiny --check").failed(2, "--check: smoke does not name a table")
    assert json.loads(skipdit("report smoke --scale tiny --json").ok().out).keys() == {
        "rows",
        "files",
    }


@pytest.fixture
def seeds(skipdit, tmp_path):
    """Two results folders of the smoke recipe that differ in the seed."""
    how = "cache-sweep --recipe smoke --scale tiny --num-samples 3 --batch-size 3 --steps 3"
    for seed in (0, 1):
        skipdit(f"{how} --repeats 0 --seed {seed} --results seed{seed}").ok()
    return tmp_path / "seed0", tmp_path / "seed1"


def test_diff_names_what_moved_and_what_changed(skipdit, seeds, table):
    done = skipdit("report smoke --diff seed0 seed0").ok()
    assert done.out.startswith("0 of ")
    done = skipdit("report --diff seed0 seed1 --json")
    changes = json.loads(done.out)["changes"]
    assert {each["cause"] for each in changes} == {"seed 0 -> 1"}
    assert {each["column"] for each in changes} == {"digits_psnr", "digits_ssim"}
    kinds = {each["kind"] for each in changes}
    assert kinds <= {"moved", "within"}
    assert done.code == (5 if "moved" in kinds else 0)

    path = seeds[1] / "tiny" / "smoke.csv"
    text = path.read_text()
    path.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    done = skipdit("report smoke --diff seed0 seed1")
    assert done.code == 5
    gone = [line for line in table(done.out) if line["column"] == ""]
    assert [(line[""], line["row"]) for line in gone] == [("gone", "Skip-Cache n=3")]
    done = skipdit("report --diff", seeds[0] / "tiny", seeds[1] / "tiny" / "smoke.csv")
    assert (done.code, len(done.remarks)) == (5, 1)


def test_diff_tells_table_by_table_and_not_of_those_that_ship(skipdit, seeds):
    pictures = shutil.ignore_patterns("*.png")
    for side in seeds:
        for name in ("tiny", "published", "paper-flops"):  # and not what was made here since
            place = ROOT / "results" / name
            shutil.copytree(place, side / name, ignore=pictures, dirs_exist_ok=True)
    done = skipdit("report --diff seed0 seed1")
    first, second, *_ = done.out.split("\n\n")
    assert re.fullmatch(r"\d of (\d+) numbers in 1 table moved by .*\.", first)
    assert re.fullmatch(r"tiny/smoke: \d of \d+ numbers moved by .*, 0 gone, 0 new, .*", second)
    assert "demo" not in first + second
    left_out = "left out, for nothing of their runs is there; name a recipe or two files"
    assert f"\n{left_out}: tiny/demo, tiny/methods, tiny/table1, " in done.out
    assert "paper-flops" not in done.out  # of which nothing was run
    named = skipdit("report table2 --diff seed0 seed1").ok().out
    assert named.startswith("0 of ")
    assert named.endswith("\nthe same: tiny/table2\n")


def test_diff_takes_tables_as_they_are(skipdit):
    wrong = "tables are compared as they were written"
    skipdit("report table1 --diff a b --check").failed(2, "--diff", wrong)
    skipdit("report table1 --diff a b --scale tiny").failed(2, "--diff", wrong)
    skipdit("report --diff a b").failed(2, "--diff a: no such file; name two files or two folders")
    skipdit("report --diff a").failed(2, "--diff")
    skipdit("report --check").failed(2, "no recipe", "skipdit report --help")
