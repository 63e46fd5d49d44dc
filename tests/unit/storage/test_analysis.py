"""Analyses on disk: read back as they were, a line of CSV for every number."""

import json

import pytest

from skipdit_cli.storage.analysis import (
    Analysis,
    Lines,
    Map,
    read_analysis,
    to_csv,
    write_analysis,
)

CURVES = Lines(
    title="curves",
    across="timestep",
    up="error",
    at=(900, 500, 100),
    series={"a": (1.0, None, 0.25), "b": (0, 1, 2)},
    low={"a": (0.5, None, 0.125)},
    high={"a": (2.0, None, 0.5)},
    log=True,
)
GRID = Map(
    title="grid",
    down="layer",
    across="step",
    rows=("0", "1"),
    columns=("x", "y", "z"),
    values=((1.0, 2.0, 3.0), (None, 5.0, 6.5)),
    measure="similarity",
    marks={"n=2": ((0, 1), (1, 2))},
)
FOUND = Analysis(
    kind="dynamics",
    models=("digits", "digits-skip"),
    settings={"steps": "50", "guidance": None, "at": [3, 1]},
    panels=(CURVES, GRID),
    summary=({"model": "digits", "mean": 0.5}, {"model": "digits-skip", "mean": None}),
    notes=("A sentence.",),
    provenance={"command": "skipdit analyze dynamics"},
)


def test_it_is_read_as_it_was_written(tmp_path):
    paths = write_analysis(tmp_path, FOUND)
    at = tmp_path / "analysis" / "digits+digits-skip"
    assert paths == [at / "dynamics.json", at / "dynamics.csv"]
    assert at == FOUND.folder(tmp_path)
    assert read_analysis(tmp_path, "dynamics", FOUND.models) == FOUND
    assert read_analysis(tmp_path, "spectra", FOUND.models) is None
    content = json.loads(paths[0].read_text())
    assert [panel["form"] for panel in content["panels"]] == ["lines", "map"]


def test_a_dry_run_takes_the_place_of_none(tmp_path):
    write_analysis(tmp_path, FOUND)
    dry = Analysis(**{**vars(FOUND), "settings": {"weights": "random"}})
    paths = write_analysis(tmp_path, dry)
    assert paths[0] == tmp_path / "random" / "analysis" / "digits+digits-skip" / "dynamics.json"
    assert read_analysis(tmp_path, "dynamics", FOUND.models) == FOUND
    assert read_analysis(tmp_path, "dynamics", FOUND.models, dry=True) == dry


def test_every_number_is_a_line_of_csv():
    lines = to_csv(FOUND).splitlines()
    assert lines[0] == "panel,series,at,value,low,high"
    assert lines[1:4] == ["curves,a,900,1,0.5,2", "curves,a,500,,,", "curves,a,100,0.25,0.125,0.5"]
    assert lines[4] == "curves,b,900,0,,"
    assert lines[7:10] == ["grid,0,x,1,,", "grid,0,y,2,,", "grid,0,z,3,,"]
    assert lines[10:] == ["grid,1,x,,,", "grid,1,y,5,,", "grid,1,z,6.5,,"]


def test_what_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"finite|JSON"):
        write_analysis(tmp_path, Analysis(**{**vars(FOUND), "settings": {"x": float("nan")}}))
    assert not [*tmp_path.rglob("*.json")]


@pytest.mark.parametrize("change", [("0.25", "0.75"), ('"up"', '"upp"')])
def test_a_damaged_one_counts_as_absent(tmp_path, capsys, change):
    path, _ = write_analysis(tmp_path, FOUND)
    path.write_text(path.read_text().replace(*change))
    with pytest.warns(UserWarning, match="dynamics.json"):
        assert read_analysis(tmp_path, "dynamics", FOUND.models) is None
