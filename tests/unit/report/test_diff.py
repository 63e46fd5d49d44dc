"""What changed between two tables, worked out on small ones."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from skipdit_cli import report
from skipdit_cli.errors import ToleranceError, UsageError
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.report import written
from skipdit_cli.report.diff import Change, diff, record, require
from skipdit_cli.report.publish import records
from skipdit_cli.report.table import Cell, Heading, Line, Table
from skipdit_cli.run import Run
from skipdit_cli.spec import parse_cache
from skipdit_cli.storage import results

RUN = replace(make_run("digits-skip", "skip-cache(n=2)", {"guidance": None}), weights="f00d")
FORA = parse_cache("fora(n=2)").resolve(RUN.cache.layout)
MADE = {"device": "a CPU", "torch": "2.13.0", "commit": "aaaa"}


def table(*cells, run=RUN.key, name="n=2", made="a CPU", published=True):
    """A table of one row with MACs, PSNR and latency."""
    headings = (
        Heading("macs_g", "macs", "MACs", "G"),
        Heading("digits_psnr", "psnr", "PSNR", "dB"),
        Heading("latency_s", "latency", "latency", "s"),
    )
    return Table(
        title="small",
        names=("method",),
        headings=headings[: len(cells)],
        lines=(Line((name,), cells, runs=(run,)),),
        published=published,
        provenance={"skipdit": "0.1.0", "device": made},
    )


def macs(value=2.0, paper=None):
    return Cell(ours=value, paper=paper, status="measured")


def psnr(value=30.0, margin=None, n=16):
    return Cell(ours=value, interval=within(value, margin), n=n, status="tiny scale")


def within(value, margin):
    return None if margin is None else (value - margin, value + margin)


def put(root: Path, table: Table, name="mine") -> Path:
    """Write a table where a report does."""
    report.write_table(table, root / "tiny", name=name)
    return root


def made(root: Path, run: Run = RUN, *, score: float | None = None, sampled=MADE, **changes):
    """Leave behind what a run and its score do."""
    folder = root / "samples" / run.key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"run": run.to_dict(), "provenance": sampled}))
    if score is not None:
        given = {"unit": "dB", "n": 16, "run": run.key, "provenance": MADE} | changes
        results.write_result(root, results.Result(metric="psnr", value=score, **given))


@pytest.fixture
def sides(tmp_path):
    return tmp_path / "old", tmp_path / "new"


def compare(sides, old: Table, new: Table) -> list[Change]:
    for root, each in zip(sides, (old, new), strict=True):
        put(root, each)
    return list(diff(*sides).changes)


def test_nothing_moved(sides):
    assert compare(sides, table(macs(), psnr()), table(macs(2.000001), psnr())) == []
    found = diff(*sides)
    require(found)
    assert str(found) == (
        "0 of 2 numbers in 1 table moved by more than their uncertainty, 0 gone, 0 new, 0 within it"
    )


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (psnr(30.0), psnr(30.0001), "moved"),  # no interval: a relative 1e-6
        (psnr(30.0, 1.5), psnr(31.9, 0.5), "within"),
        (psnr(30.0, 1.5), psnr(32.1, 0.5), "moved"),
        (psnr(30.0, 2.0), Cell(status="failed"), "gone"),
        (Cell(status="not run"), psnr(), "new"),
    ],
)
def test_what_became_of_a_score(sides, old, new, kind):
    others = table(macs(), old), table(macs(), new, run="beef")
    assert [each.kind for each in compare(sides, *others)] == [kind]


@pytest.mark.parametrize(
    ("new", "made", "kind"),
    [
        (psnr(30.1, 2.0), "a CPU", "moved"),  # the same noise on the same device: it is the code
        (psnr(30.1, 2.0), "a GPU", "within"),
        (psnr(30.1, 2.0), "", "within"),  # not known
        (psnr(30.1, 2.0, n=15), "a CPU", "within"),
    ],
)
def test_a_score_of_the_same_run_moves_by_any_difference(sides, new, made, kind):
    old, new = table(macs(), psnr(30.0, 2.0)), table(macs(), new, made=made)
    assert [each.kind for each in compare(sides, old, new)] == [kind]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "moved"),
        ({"version": 2, "provenance": MADE | {"commit": "b"}}, "moved"),
        ({"inputs": "others", "sampled": MADE | {"commit": "b"}}, "moved"),
        ({"provenance": MADE | {"device": "a GPU"}}, "within"),
        ({"inputs": "others", "sampled": MADE | {"torch": "2.14.0"}}, "within"),
    ],
)
def test_what_a_score_was_made_with_is_looked_up_where_it_is(sides, changes, kind):
    made(sides[0], score=30.0)
    made(sides[1], score=30.1, **changes)
    old, new = table(macs(), psnr(30.0, 2.0)), table(macs(), psnr(30.1, 2.0), made="")
    (change,) = compare(sides, old, new)
    assert (change.kind, change.uncertainty is None) == (kind, kind == "moved")


@pytest.mark.parametrize(
    ("shift", "seed", "kind"),
    [
        (0.5, 0, "moved"),  # in every sample, where the means are known to 2 dB
        ((0.5, -0.4), 0, "within"),
        (0.5, 1, "within"),  # of other noise: no pairs
    ],
)
def test_scores_of_the_same_noise_are_compared_in_pairs(sides, shift, seed, kind):
    """On another device; the two means alone would be told apart by 4 dB and no less."""
    shifts = shift if isinstance(shift, tuple) else (shift, shift)
    old, new = [20.0 + i for i in range(16)], [20.0 + i + shifts[i % 2] for i in range(16)]
    other = replace(RUN, seed=seed)
    made(sides[0], score=sum(old) / 16, scores=tuple(old))
    gpu = MADE | {"device": "a GPU"}
    mean = sum(new) / 16
    made(sides[1], other, score=mean, scores=tuple(new), provenance=gpu)
    tables = table(macs(), psnr(27.5, 2.0)), table(macs(), psnr(mean, 2.0), run=other.key)
    (change,) = compare(sides, *tables)
    assert change.kind == kind
    if seed == 0:
        assert change.uncertainty == pytest.approx(0 if kind == "moved" else 0.2, abs=0.03)


@pytest.mark.parametrize(
    ("margin", "new", "kind"),
    [(0.1, 1.15, "within"), (0.1, 1.25, "moved"), (None, 1.25, "unjudged")],
)
@pytest.mark.parametrize("published", [True, False])
def test_timings_move_by_more_than_their_margin(sides, margin, new, kind, published):
    old, new = (
        table(
            macs(),
            psnr(),
            Cell(ours=v, interval=within(v, margin), n=3, status="measured"),
            published=published,
        )
        for v in (1.0, new)
    )
    (change,) = compare(sides, old, new)
    assert (change.kind, change.column) == (kind, "latency_s")
    assert change.uncertainty == (None if margin is None else pytest.approx(0.2))


def test_rows_columns_and_tables_of_one_side(sides):
    old, new = sides
    put(old, table(macs()), "gone")
    put(new, table(macs()), "fresh")
    changes = compare(sides, table(macs(), psnr()), table(macs(), name="n=3"))
    assert [(each.kind, each.table, each.row) for each in changes] == [
        ("gone", "tiny/gone", ""),
        ("new", "tiny/fresh", ""),
        ("gone", "tiny/mine", "n=2"),
        ("new", "tiny/mine", "n=3"),
    ]
    with pytest.raises(ToleranceError, match=r"first tiny/gone: gone$"):
        require(diff(old, new))
    (change,) = diff(old / "tiny/gone.csv", old / "tiny/mine.csv").changes  # has a column more
    assert (change.kind, change.column) == ("new", "digits_psnr")
    require(diff(old / "tiny/gone.csv", old / "tiny/mine.csv"))
    (change,) = diff(old / "tiny/mine.csv", old / "tiny/gone.csv").changes
    assert (change.kind, change.cause) == ("gone", "not in the table")


def test_every_table_has_its_own_counts(sides):
    for root, level in zip(sides, (30.0, 40.0), strict=True):
        put(root, table(macs(), psnr(level), run=f"{level:.0f}"), "other")
        put(root, table(macs(), psnr()), "same")
    compare(sides, table(macs(), psnr()), table(macs(3.0), Cell(status="failed")))
    found = diff(*sides)
    assert found.shared == {"tiny/mine": 1, "tiny/other": 2, "tiny/same": 2}
    assert {name: each.counts for name, each in found.by_table.items()} == {
        "tiny/mine": "1 of 1 numbers moved by more than their uncertainty, 1 gone, 0 new, "
        "0 within it",
        "tiny/other": "1 of 2 numbers moved by more than their uncertainty, 0 gone, 0 new, "
        "0 within it",
    }
    assert str(found).startswith("2 of 5 numbers in 3 tables moved")
    assert record(found)["by_table"]["tiny/mine"] == {
        **dict.fromkeys(("numbers", "moved", "gone"), 1),
        **dict.fromkeys(("new", "within", "unjudged"), 0),
    }


def test_what_was_not_made_in_a_results_folder_is_left_out(sides):
    """Of `mine` there is a run on both sides; `shipped` came with a checkout, whose run is not
    there, and was made again on one side."""
    for root in sides:
        made(root)
        put(root, table(macs(), run="beef"), "shipped")
        put(root, table(macs(), run="beef"), "shipped once")
    (sides[1] / "scores" / "beef").mkdir(parents=True)
    put(sides[0], table(macs(), run="cafe"), "shipped before")
    put(sides[1], table(macs()), "fresh")
    changes = compare(sides, table(macs()), table(macs(3.0)))
    found = diff(*sides)
    assert [(each.kind, each.table) for each in changes] == [
        ("new", "tiny/fresh"),
        ("moved", "tiny/mine"),
    ]
    assert found.left_out == ("tiny/shipped", "tiny/shipped before", "tiny/shipped once")
    assert list(record(found)["left_out"]) == list(found.left_out)
    assert list(found.shared) == ["tiny/mine"]

    assert diff(*sides, name="shipped").shared == {"tiny/shipped": 1}  # asked for by name
    folders = [side / "tiny" for side in sides]
    assert set(diff(*folders).shared) == {"mine", "shipped", "shipped once"}  # folders of tables
    files = [side / "tiny" / "shipped.csv" for side in sides]
    assert diff(*files).shared == {"shipped": 1}
    for side in sides:
        (side / "tiny" / "mine.csv").unlink()
    with pytest.raises(UsageError, match=r"no table .* but tiny/shipped, .* nothing is there"):
        diff(*sides)


def test_other_tables_are_none(sides):
    """What `plan --out` writes, published values, and whatever lies there."""
    for root in sides:
        put(root, table(macs()))
        for place in ("paper-flops/table1.csv", "published/table1.csv", "mine.csv"):
            (root / place).parent.mkdir(exist_ok=True)
            (root / place).write_text("row,macs\nRuns,2\n")
    assert list(diff(*sides).shared) == ["tiny/mine"]
    (sides[0] / "mine.csv").write_text("")
    with pytest.raises(UsageError, match=r"mine\.csv: is not a table that skipdit wrote"):
        diff(*sides)


def test_of_folders_without_runs_all_tables_count(sides):
    compare(sides, table(macs()), table(macs()))
    assert diff(*sides).left_out == ()


def test_a_published_value_that_changed(sides):
    (change,) = compare(sides, table(macs(paper=2.0)), table(macs(paper=2.1)))
    assert (change.column, change.cause) == ("macs_g, paper", "the published value")


def test_a_published_value_that_only_one_table_shows_is_no_change(sides):
    """As in a folder from before the tiny scale left out what does not compare."""
    old, new = table(macs(paper=2.0), psnr()), table(macs(), psnr(), published=False)
    assert compare(sides, old, new) == []
    assert compare(sides, new, old) == []


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"seed": 1}, "seed 0 -> 1"),
        (
            {"cache": FORA, "seed": 1},
            "cache skip-cache(n=2,window=1000-20,branch=2) -> " + str(FORA),
        ),
        ({"weights": "beef"}, "weights f00d -> beef"),
        ({"prompts": ("a long prompt " * 20,)}, "prompts"),
    ],
)
@pytest.mark.parametrize("scored", [True, False])
def test_the_first_field_of_another_run(sides, changes, cause, scored):
    other = replace(RUN, **changes)
    made(sides[0], score=30.0 if scored else None)
    made(sides[1], other, score=29.0 if scored else None)
    old, new = table(macs(), psnr()), table(macs(), psnr(29.0), run=other.key)
    (change,) = compare(sides, old, new)
    assert change.cause == cause


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"version": 2, "protocol": "another"}, "metric version 0 -> 2"),
        ({"protocol": "another"}, "protocol  -> another"),
        ({"n": 8}, "n 16 -> 8"),
        ({"provenance": MADE | {"device": "a GPU", "commit": "b"}}, "device a CPU -> a GPU"),
        ({"provenance": MADE | {"commit": "b"}}, "commit aaaa -> b"),
        ({}, "nothing that is recorded"),
        (
            {"inputs": "others", "sampled": MADE | {"torch": "2.14.0"}},
            "samples: torch 2.13.0 -> 2.14.0",
        ),
        ({"inputs": "others", "sampled": MADE | {"commit": "b"}}, "samples: commit aaaa -> b"),
        ({"inputs": "others"}, "samples: others, of the same run and code"),
    ],
)
def test_the_first_field_of_a_score_of_the_same_run(sides, changes, cause):
    made(sides[0], score=30.0)
    made(sides[1], score=29.0, **changes)
    (change,) = compare(sides, table(macs(), psnr()), table(macs(), psnr(29.0)))
    assert change.cause == cause


def test_what_is_not_here_is_said(sides):
    old = table(macs(), psnr())
    (change,) = compare(sides, old, table(macs(), psnr(29.0)))
    assert change.cause == "the same run; its score is not here"
    (change,) = compare(sides, old, table(macs(), psnr(29.0), made="a GPU"))
    assert change.cause == "device a CPU -> a GPU (of the table)"
    (change,) = compare(sides, old, table(macs(3.0), psnr()))
    assert change.cause == "the same run, counted in another way"
    (change,) = compare(sides, old, table(macs(), psnr(29.0), run="beef"))
    assert change.cause == f"another run, and run {RUN.key} is not here"


def test_a_score_that_was_overwritten_is_not_the_one_of_the_table(sides):
    made(sides[0], score=28.0)
    made(sides[1], score=29.0, version=2)
    (change,) = compare(sides, table(macs(), psnr()), table(macs(), psnr(29.0)))
    assert change.cause == "the same run; its score is not here"


@pytest.mark.parametrize("published", [True, False])
def test_json_and_csv_are_the_same_table(sides, published):
    each = table(macs(paper=2.0 if published else None), psnr(30.0, 1.5), published=published)
    put(sides[0], each)
    path = sides[0] / "mine.json"
    path.write_text(json.dumps({"rows": records(each), "files": []}))
    csv = written.read_table(sides[0] / "tiny/mine.csv")
    assert asdict(csv.rows["n=2"])["numbers"]["digits_psnr"] == {
        "value": 30.0,
        "interval": (28.5, 31.5),
        "n": 16,
        "status": "tiny scale",
    }
    assert diff(sides[0] / "tiny/mine.csv", path).changes == ()
    assert diff(path, sides[0] / "tiny/mine.csv").changes == ()


def test_json_and_csv_of_the_tiny_scale_are_the_same_table(sides, small):
    put(sides[0], small)
    path = sides[0] / "mine.json"
    path.write_text(json.dumps({"rows": records(small), "files": []}))
    found = written.read_table(sides[0] / "tiny/mine.csv").rows["Skip-Cache n=2"].numbers
    assert found["psnr"] == written.Number(30.0, (28.0, 32.0), 16, "tiny scale")
    assert found["speedup"] == written.Number(1.25, (1.15, 1.35), None, "tiny scale")
    assert found["speedup, paper"].value == 1.56
    assert diff(sides[0] / "tiny/mine.csv", path).changes == ()
    assert diff(path, sides[0] / "tiny/mine.csv").changes == ()


def test_rows_of_one_name_are_told_apart(sides):
    each = table(macs())
    put(sides[0], replace(each, lines=each.lines * 2))
    assert list(written.read_table(sides[0] / "tiny/mine.csv").rows) == ["n=2", "n=2 #2"]


def test_the_error_names_the_first(sides):
    compare(sides, table(macs(), psnr()), table(macs(), psnr(29.0)))
    found = diff(*sides)
    with pytest.raises(ToleranceError) as caught:
        require(found)
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "--diff: 1 of 2 numbers in 1 table moved by more than their uncertainty, 0 gone, 0 new, "
        "0 within it; first tiny/mine, n=2, digits_psnr: 30 -> 29 (the same run; its score is not "
        "here)"
    )
    assert json.loads(json.dumps(record(found)))["changes"][0]["new"] == 29.0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no column of runs"),
        ("method,x_status,runs\na", "not a table that skipdit wrote"),
        ("method,x,x_status,runs\na,nan,ok,\n", "is not a number"),
        ("method,x,x_status,runs\na,b,ok,\n", "could not convert"),
    ],
)
def test_what_is_no_table(tmp_path, content, said):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UsageError, match=said):
        diff(tmp_path / "a.csv", tmp_path / "a.csv")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(UsageError, match="not a table that skipdit wrote"):
        written.read_table(tmp_path / "a.json")


def test_places_that_do_not_fit(sides):
    put(sides[0], table(macs()))
    with pytest.raises(UsageError, match="no such file; name two files or two folders"):
        diff(*sides)
    put(sides[1], table(macs()), "other")
    with pytest.raises(UsageError, match="no table is in both"):
        diff(*sides)
    put(sides[0], table(macs()), "other")
    assert diff(*sides, name="other").changes == ()
    assert [each.table for each in diff(*sides).changes] == ["tiny/mine"]
    assert diff(sides[0] / "tiny/other.csv", sides[1] / "tiny").changes == ()
