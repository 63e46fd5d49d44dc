"""The log and the scores of a training: what was written comes back, whatever a kill left."""

import json
import math

import pytest

from skipdit_cli.storage.disk import DamagedError, StoreError
from skipdit_cli.storage.training import (
    ASKED,
    LOG,
    RECORD,
    SCORES,
    Logged,
    Scored,
    append,
    logged,
    scored,
    settings,
)

LINE = {
    "step": 10,
    "loss": 0.5,
    "learning_rate": 1e-3,
    "gradient_norm": 2.0,
    "samples_per_second": 64,
    "seconds": 1.5,
    "memory_bytes": None,
}


def score(step, value, metric="fid@digits"):
    return {"step": step, "metric": metric, "value": value, "samples": 500, "seconds": 61.2}


def test_what_is_appended_is_read(tmp_path):
    folder = tmp_path / "new" / "run"
    append(folder / LOG, LINE)
    append(folder / LOG, LINE | {"step": 20, "loss": math.nan, "gradient_norm": math.inf})
    append(folder / SCORES, score(200, 12.5))
    append(folder / SCORES, score(400, None))
    first, second = logged(folder)
    assert first == Logged(**LINE)
    assert (second.step, second.loss, second.gradient_norm) == (20, None, None)
    assert scored(folder) == [Scored(**score(200, 12.5)), Scored(**score(400, None))]
    assert len((folder / LOG).read_text().splitlines()) == 2


def test_a_run_that_tells_nothing(tmp_path):
    assert (logged(tmp_path), scored(tmp_path), settings(tmp_path)) == ([], [], {})


@pytest.mark.parametrize("length", range(1, len(json.dumps(LINE)), 7))
def test_half_a_line_counts_as_not_written(tmp_path, length):
    """It is left out by who reads, and cut off by who writes the next one."""
    path = tmp_path / LOG
    append(path, LINE)
    half = json.dumps(LINE | {"step": 20})[:length]
    path.write_text(path.read_text() + half)
    assert [each.step for each in logged(tmp_path)] == [10]
    append(path, LINE | {"step": 30})
    assert [each.step for each in logged(tmp_path)] == [10, 30]
    assert half not in path.read_text().splitlines()


def test_a_whole_line_without_its_end_is_kept(tmp_path):
    path = tmp_path / LOG
    path.write_text(json.dumps(LINE))
    assert [each.step for each in logged(tmp_path)] == [10]
    append(path, LINE | {"step": 20})
    assert [each.step for each in logged(tmp_path)] == [10, 20]


def test_of_a_step_that_is_there_twice_the_later_line_counts(tmp_path):
    for step, loss in ((10, 3.0), (20, 2.0), (30, 1.0), (20, 2.5), (30, 1.5)):
        append(tmp_path / LOG, LINE | {"step": step, "loss": loss})
    assert [(each.step, each.loss) for each in logged(tmp_path)] == [(10, 3), (20, 2.5), (30, 1.5)]
    for line in (score(20, 5.0), score(20, 0.9, "accuracy@digits"), score(10, 9.0), score(20, 4.0)):
        append(tmp_path / SCORES, line)
    found = [(each.step, each.metric, each.value) for each in scored(tmp_path)]
    assert found == [(10, "fid@digits", 9), (20, "accuracy@digits", 0.9), (20, "fid@digits", 4)]


def test_what_is_not_known_here_is_left_out_and_what_may_lack_is_absent(tmp_path):
    append(tmp_path / LOG, {"step": 10, "loss": 1, "momentum": 0.9})
    assert logged(tmp_path) == [Logged(step=10, loss=1.0)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"step": 20', "Expecting ',' delimiter"),
        ("[1, 2]", "it is not a mapping"),
        ('{"loss": 1.0}', "it has no 'step'"),
        ('{"step": 20}', "it has no 'loss'"),
        ('{"step": "20", "loss": 1}', "its step cannot be '20'"),
        ('{"step": true, "loss": 1}', "its step cannot be 'True'"),
        ('{"step": -1, "loss": 1}', "its step cannot be -1"),
        ('{"step": 20, "loss": NaN}', "its loss cannot be 'nan'"),
        ('{"step": 20, "loss": 1e999}', "its loss cannot be 'inf'"),
        (f'{{"step": 1{"0" * 400}, "loss": 1}}', ""),
        (f'{{"step": 20, "loss": 1{"0" * 400}}}', ""),
        ("[" * 100_000, ""),
        ("\udcff", "utf-8"),
    ],
)
def test_a_line_of_something_else_is_told_with_its_number(tmp_path, line, why):
    path = tmp_path / LOG
    append(path, LINE)
    after = json.dumps(LINE) + "\n"
    path.write_bytes(path.read_bytes() + line.encode(errors="surrogateescape") + b"\n")
    path.write_text(path.read_text(errors="surrogateescape") + after, errors="surrogateescape")
    with pytest.raises(DamagedError) as error:
        logged(tmp_path)
    assert error.value.place == f"{path} line 2"
    assert error.value.problem.startswith("is not a line of a log of a training (")
    assert why in error.value.problem
    assert error.value.fix == "delete the line"
    assert "\n" not in str(error.value)


def test_blank_lines_say_nothing(tmp_path):
    (tmp_path / LOG).write_text(f"\n{json.dumps(LINE)}\n\n")
    assert [each.step for each in logged(tmp_path)] == [10]


def test_settings_of_a_run_that_is_finished_and_of_one_that_is_not(tmp_path):
    (tmp_path / ASKED).write_text('{"settings": {"model": "digits", "seed": 1}}')
    assert settings(tmp_path) == {"model": "digits", "seed": 1}
    (tmp_path / RECORD).write_text('{"settings": {"model": "digits", "seed": 2}}')
    assert settings(tmp_path) == {"model": "digits", "seed": 2}
    (tmp_path / RECORD).write_text('{"model": "digits"}')
    with pytest.raises(DamagedError, match="it has no 'settings'"):
        settings(tmp_path)


def test_what_the_disk_refuses_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="a file is where a folder should be"):
        append(tmp_path / "file" / LOG, LINE)
    (tmp_path / SCORES).mkdir()
    with pytest.raises(DamagedError, match="is a folder where a list of scores should be"):
        scored(tmp_path)
