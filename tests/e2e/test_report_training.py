"""`skipdit report training RUN...`, and that `skipdit report` is what it was."""

import csv
import json
from pathlib import Path

import pytest

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import command_line
from skipdit_cli.storage.training import append

PLAIN, SKIP = "results/train/plain", "results/train/skip"


@pytest.fixture
def runs():
    """Two runs; the second has the first one's best, 8 at step 400, at step 180."""
    for folder, model, scores in (
        (PLAIN, "digits", (20.0, 12.0, 8.0)),
        (SKIP, "digits-skip", (16.0, 6.0, 5.0)),
    ):
        for step, value in zip((100, 200, 400), scores, strict=True):
            append(Path(folder) / "log.jsonl", {"step": step, "loss": value / 100})
            line = {"step": step, "metric": "fid@digits", "value": value, "samples": 500}
            append(Path(folder) / "scores.jsonl", line)
        record = {"settings": {"model": model, "seed": 0}}
        (Path(folder) / "training.json").write_text(json.dumps(record))
    return f"{PLAIN} {SKIP}"


def test_two_runs(skipdit, table, runs):
    done = skipdit(f"report training {runs}").ok()
    assert table(done.out) == [
        {
            "run": name,
            "seeds": "0",
            "steps": "400",
            "last FID@digits ↓": best,
            "best FID@digits ↓": best,
            "at step": "400",
        }
        for name, best in (("digits", "8.00"), ("digits-skip", "5.00"))
    ]
    assert "400 / 180 = 2.22x for digits-skip; 400 / 200 = 2.00x by its scored" in done.out
    written = [f"results/training/training.{end}" for end in ("md", "csv", "png")]
    assert done.err.splitlines() == [f"wrote {path}" for path in written]
    assert Path(written[0]).read_text(encoding="utf-8") == done.out
    rows = csv.DictReader(Path(written[1]).read_text(encoding="utf-8").splitlines())
    assert {row["metric"] for row in rows} == {"fid@digits", "loss"}
    assert Path(written[2]).read_bytes().startswith(b"\x89PNG")


def test_as_data_with_figures_and_the_paper(skipdit, runs):
    given = "--json --paper --figure svg --width page --out new --metric fid@digits"
    told = json.loads(skipdit(f"report training {runs} {given}").ok().out)
    assert [each["name"] for each in told["runs"]] == ["digits", "digits-skip"]
    assert [each["skip"] for each in told["runs"]] == [False, True]
    [pair] = told["steps_to_equal_quality"]
    assert pair["ratio"] == pytest.approx(400 / 180)
    [paper] = told["published"]["steps_to_equal_quality"]
    assert paper["scored_ratio"] == pytest.approx(4.375)
    names = [
        f"new/{name}{end}"
        for name in ("training", "training-published")
        for end in (".md", ".csv", ".png", ".svg")
    ]
    assert told["files"] == names
    assert {str(path) for path in Path("new").iterdir()} == {*names}
    [remark] = skipdit(f"report training {runs} --out new").remarks
    assert remark.startswith("skipdit: warning: new: 1 figures are of an earlier comparison; ")


def test_mistakes(skipdit, runs):
    def failed(given, *parts):
        assert skipdit(f"report training {given}").failed(2, *parts).out == ""

    failed("", "RUN", "skipdit report training --help")
    failed("nowhere", "nowhere: no such folder")
    failed(f"{runs} --metric fod@digits", "--metric: unknown score", "did you mean 'fid@digits'?")
    failed(f"{runs} --figure gif", "--figure: unknown figure format 'gif'")
    failed(f"{runs} --width page", "--width", "give --figure too")
    append(Path("bare/log.jsonl"), {"step": 1, "loss": 1.0})
    failed(
        f"{runs} bare",
        "bare: it was not scored while it was trained",
        "--eval fid@digits --eval-every 200",
    )
    failed(
        "bare --metric fid",
        "bare: it was not scored while it was trained",
        "--eval fid --eval-every 200",
    )
    scores = Path(PLAIN, "scores.jsonl")
    scores.write_text(scores.read_text().replace("12.0", '"x"'))
    done = skipdit(f"report training {runs}")
    done.failed(1, f"{scores} line 2: is not a line of a list of scores (its value cannot be 'x')")
    assert not Path("results/training").exists()


def test_runs_without_scores_have_losses(skipdit, table):
    for name, losses in {"one": (4.0, 0.25, 0.5), "two": (3.0, 0.125, 0.0625)}.items():
        for step, loss in zip((50, 100, 150), losses, strict=True):
            append(Path(name, "log.jsonl"), {"step": step, "loss": loss})
    done = skipdit("report training one two").ok()
    assert table(done.out)[0] == {
        "run": "one",
        "seeds": "–",
        "steps": "150",
        "last loss ↓": "0.5000",
        "best loss ↓": "0.2500",
        "at step": "100",
    }
    assert "- There are no scores, and losses say little of samples: give --eval fid@" in done.out
    assert "equal quality" not in done.out
    rows = [*csv.DictReader(Path("results/training/training.csv").read_text().splitlines())]
    assert [(row["run"], row["metric"], row["value"]) for row in rows[2:4]] == [
        ("one", "loss", "0.5"),
        ("two", "loss", "3"),
    ]
    assert len(rows) == 6
    assert Path("results/training/training.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(skipdit("report training one two --json").ok().out)
    assert (told["metric"], told["steps_to_equal_quality"]) == ("loss", [])
    assert told["remark"].startswith("There are no scores")
    Path("two/log.jsonl").unlink()
    Path("two/training.json").write_text('{"settings": {}}')
    skipdit("report training one two").failed(2, "two: it has neither scores nor losses")


def test_a_run_that_is_going_on_is_read_as_far_as_it_is(skipdit, table, runs):
    Path(PLAIN, "training.json").unlink()
    with Path(PLAIN, "scores.jsonl").open("a") as file:
        file.write('{"step": 600, "metr')
    shown = table(skipdit(f"report training {runs}").ok().out)
    assert [(row["run"], row["steps"]) for row in shown] == [
        ("plain", "400"),
        ("digits-skip", "400"),
    ]


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ("", ["skipdit report: no recipe", "skipdit report --help"]),
        ("--json tablo1", ["unknown recipe or study 'tablo1'"]),
        ("tablo1", ["unknown recipe or study 'tablo1'"]),
        ("table", ["unknown recipe or study 'table'"]),
        ("--bogus", ["--bogus", "see skipdit report --help"]),
        ("table1 table2", ["table2", "see skipdit report --help"]),
        ("training.yaml", ["training.yaml: no such file"]),
    ],
)
def test_anything_else_is_of_recipes_and_studies(skipdit, given, parts):
    skipdit(f"report {given}".strip()).failed(2, *parts)


def test_help_tells_of_both(skipdit):
    shown = skipdit("report --help").ok().out
    assert "Usage: skipdit report [OPTIONS] [RECIPE|STUDY]" in shown
    assert "`skipdit report training RUN...`" in shown
    assert "--check" in shown
    assert "Usage: skipdit report training [OPTIONS]" in skipdit("report training --help").ok().out
    assert "report " in skipdit("--help").ok().out


def test_the_shell_completes_both(runs):
    assert complete.reported("tr") == ["training"]
    assert complete.reported("smo") == ["smoke"]
    assert complete.trainings("results/train/p") == [PLAIN]
    report = command_line().commands["report"]
    assert [*report.commands] == ["table", "training"]
