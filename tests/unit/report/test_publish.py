"""What a sweep leaves behind: which files, what is in the grid, and the table as JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from skipdit_cli.errors import StoreError
from skipdit_cli.plan import plan
from skipdit_cli.recipe import runs
from skipdit_cli.report import publish as publishing
from skipdit_cli.report.publish import publish, records
from skipdit_cli.report.sweep import build_sweep_table
from skipdit_cli.score.sweep import SweepRow
from skipdit_cli.storage.results import Result
from skipdit_cli.storage.store import open_store

TABLES = ("mine.md", "mine.csv", "mine.tex", "mine.html")


def run(cache="none", **settings):
    settings = {"num_samples": 2, "steps": 4, **settings}
    return runs.make_run("digits-skip", cache, settings)


def row(run, *, psnr=None, failure="", label=None):
    found = {}
    if psnr is not None:
        found["psnr"] = Result(metric="psnr", value=psnr, unit="dB", n=run.num_samples, run=run.key)
    label = label or str(run.cache).partition(",")[0]
    return SweepRow(label, run, plan.plan(run), found, failure)


@pytest.fixture
def stored(tmp_path):
    """stored(run) -> the run, with its samples on disk: a plane each, of a colour of its own."""

    def store(run, count=None):
        into = open_store(tmp_path / "results", run)
        for i in range(run.num_samples if count is None else count):
            shade = 10 * i + len(str(run.cache))
            into.write(i, np.full((16, 16, 3), shade, np.uint8), meta={"class": i + 3})
        return run

    return store


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of every grid, in place of pictures."""
    calls = []

    def grid(columns, path, *, rows, title):
        calls.append({"columns": columns, "path": path, "rows": rows, "title": title})
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        return path

    monkeypatch.setattr(publishing, "grid", grid)
    return calls


def published(tmp_path, rows):
    root = tmp_path / "results"
    paths = publish(build_sweep_table(rows), tmp_path / "report", name="mine", rows=rows, root=root)
    assert all(path.is_file() for path in paths)
    return [path.name for path in paths]


def test_the_files_of_a_sweep(tmp_path, stored):
    rows = [row(stored(run())), row(stored(run("skip-cache(n=2)")), psnr=30.0)]
    names = published(tmp_path, rows)
    assert names == [*TABLES, "mine-psnr-speedup.png", "mine-samples.png"]
    for name in names[len(TABLES) :]:
        assert (tmp_path / "report" / name).read_bytes().startswith(b"\x89PNG")


def test_without_a_psnr_there_is_no_plot(tmp_path, stored, drawn):
    rows = [row(stored(run())), row(stored(run("skip-cache(n=2)")))]
    assert published(tmp_path, rows) == [*TABLES, "mine-samples.png"]


def test_without_a_cached_run_there_is_no_grid(tmp_path, stored, drawn):
    assert published(tmp_path, [row(stored(run()))]) == list(TABLES)
    assert drawn == []


def test_the_grid(tmp_path, stored, drawn):
    """The reference first, whatever the order of the rows; samples by index, with their class."""
    cached = row(stored(run("skip-cache(n=2)")), psnr=30.126, label="skip-cache n=2")
    published(tmp_path, [cached, row(stored(run()), label="no cache (n=1)")])
    (grid,) = drawn
    assert [(c.title, c.subtitle) for c in grid["columns"]] == [
        ("no cache (n=1)", "reference"),
        ("skip-cache n=2", "30.13 dB"),
    ]
    assert grid["rows"] == ["class 3", "class 4"]
    assert grid["title"] == "digits-skip, ddim 4, guidance 2, seed 0"
    shades = [[int(sample[0, 0, 0]) for sample in column.samples] for column in grid["columns"]]
    length = len(str(cached.run.cache))
    assert shades == [[4, 14], [length, 10 + length]]


def test_only_the_reference_is_called_reference(tmp_path, stored, drawn):
    published(tmp_path, [row(stored(run())), row(stored(run("skip-cache(n=2)")))])
    assert [column.subtitle for column in drawn[0]["columns"]] == ["reference", ""]


def test_columns_of_several_windows_name_them(tmp_path, stored, drawn):
    caches = ("skip-cache(n=2,window=800-50)", "skip-cache(n=2,window=700-50)")
    rows = [row(stored(run(cache)), psnr=30.0, label="skip-cache n=2") for cache in caches]
    published(tmp_path, [row(stored(run())), *rows])
    assert [column.title for column in drawn[0]["columns"][1:]] == [
        "skip-cache n=2, 800-50",
        "skip-cache n=2, 700-50",
    ]


def test_samples_without_a_class_are_numbered(tmp_path, drawn):
    rows = []
    for cache in ("none", "skip-cache(n=2)"):
        own = run(cache, num_samples=1)
        black = np.zeros((16, 16, 3), np.uint8)
        open_store(tmp_path / "results", own).write(0, black, meta={})
        rows.append(row(own))
    published(tmp_path, rows)
    assert drawn[0]["rows"] == ["#0"]


def test_a_grid_shows_eight_samples_at_most(tmp_path, stored, drawn):
    rows = [row(stored(run(cache, num_samples=10))) for cache in ("none", "skip-cache(n=2)")]
    published(tmp_path, rows)
    assert len(drawn[0]["rows"]) == publishing.GRID_ROWS == 8
    assert {len(column.samples) for column in drawn[0]["columns"]} == {8}


def test_one_grid_for_each_reference(tmp_path, stored, drawn):
    rows = [
        row(stored(run(cache, seed=seed)))
        for seed in (0, 1, 2)
        for cache in ("none", "skip-cache(n=2)")
    ][:-1]  # the last reference has no cached run
    assert published(tmp_path, rows)[len(TABLES) :] == ["mine-samples-1.png", "mine-samples-2.png"]
    assert [grid["title"][-1] for grid in drawn] == ["0", "1"]


def test_pictures_of_an_earlier_table_do_not_stay(tmp_path, stored, drawn):
    """One grid becomes two, and the plot has nothing to show any more; what is not ours stays."""
    rows = [row(stored(run())), row(stored(run("skip-cache(n=2)")), psnr=30.0)]
    assert published(tmp_path, rows)[-2:] == ["mine-psnr-speedup.png", "mine-samples.png"]
    (tmp_path / "report" / "mine-samples-notes.png").write_bytes(b"")
    others = [row(stored(run(cache, seed=1))) for cache in ("none", "skip-cache(n=2)")]
    published(tmp_path, [*(replace(each, results={}) for each in rows), *others])
    left = sorted(path.name for path in (tmp_path / "report").glob("*.png"))
    assert left == ["mine-samples-1.png", "mine-samples-2.png", "mine-samples-notes.png"]


def test_failed_runs_are_left_out_of_the_grid(tmp_path, stored, drawn):
    failed = row(run("skip-cache(n=3)"), failure="out of memory")
    sound = row(stored(run("skip-cache(n=2)")), psnr=30.0)
    names = published(tmp_path, [row(stored(run())), failed, sound])
    assert "mine-samples.png" in names
    assert [len(grid["columns"]) for grid in drawn] == [2]
    assert "out of memory" in (tmp_path / "report" / "mine.md").read_text()


def test_runs_whose_samples_are_gone_are_left_out_of_the_grid(tmp_path, stored, drawn):
    part = row(stored(run("skip-cache(n=2)"), count=1))
    rows = [row(stored(run())), part]
    assert "mine-samples.png" not in published(tmp_path, rows)
    published(tmp_path, [*rows, row(stored(run("skip-cache(n=3)")))])
    assert [len(grid["columns"]) for grid in drawn] == [2]


def test_a_folder_that_cannot_be_written(tmp_path, stored):
    (tmp_path / "report").write_text("")
    with pytest.raises(StoreError, match="a file is where a folder should be"):
        published(tmp_path, [row(stored(run()))])


def test_records(stored):
    rows = [row(run()), row(run("skip-cache(n=2)"), psnr=30.0, failure="")]
    table = build_sweep_table(rows)
    found = records(table)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [record["model"] for record in found] == ["digits-skip"] * 2
    assert found[1]["window"] == "1000-20"
    assert found[1]["cached"] == "2"
    assert found[1]["psnr"] == {
        "ours": 30.0,
        "paper": None,
        "spread": None,
        "interval": None,
        "n": 2,
        "status": "tiny scale",
        "note": "",
    }
    assert found[0]["psnr"]["status"] == "reference"
    assert found[1]["runs"] == [rows[1].run.key]


def test_records_of_a_failed_run(stored):
    rows = [row(run()), replace(row(run("skip-cache(n=2)")), failure="out of memory")]
    cell = records(build_sweep_table(rows, metrics=["psnr"]))[1]["psnr"]
    assert (cell["status"], cell["note"], cell["ours"]) == ("failed", "out of memory", None)
