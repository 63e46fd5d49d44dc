"""The published values are found by the key columns of their line."""

import pytest

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import UsageError
from skipdit_cli.recipe import published


def test_values_of_one_line():
    assert published.numbers("table1", {"method": "Latte"}) == {
        "ucf101_fvd": 155.22,
        "ucf101_fid": 22.97,
        "ffs_fvd": 28.88,
        "ffs_fid": 5.36,
        "sky_fvd": 49.46,
        "sky_fid": 11.51,
        "taichi_fvd": 166.84,
        "taichi_fid": 11.57,
        "flops_t": 278.63,
        "latency_s": 9.9,
        "speedup": 1.0,
    }


def test_several_keys_and_numbers_as_text():
    line = published.numbers("table8", {"cfg": "1.0", "method": "Skip-Cache", "n": "4"})
    assert (line["fid"], line["recall_pct"], line["speedup"]) == (11.37, 67.32, 1.92)
    assert not {"cfg", "method", "n"} & set(line)


def test_what_the_paper_leaves_out_is_left_out():
    line = published.numbers("table3", {"method": "Latte"})
    assert "psnr" not in line
    assert line["vbench"] == 76.14


@pytest.mark.parametrize(
    ("table", "keys", "message"),
    [
        ("tabel1", {}, "unknown published table 'tabel1'; did you mean 'table1'"),
        ("table1", {"metod": "FORA"}, "unknown key column of table1 'metod'.*'method'"),
        ("table1", {"method": "Fora"}, r"here: 0 lines of table1\.csv have method=Fora"),
        ("table8", {"method": "FORA"}, r"here: 2 lines of table8\.csv have method=FORA"),
    ],
)
def test_mistakes(table, keys, message):
    with pytest.raises(UsageError, match=message):
        published.numbers(table, keys, place="here")


def test_every_published_table_is_there():
    names = {path.stem for path in shipped.published().glob("*.csv")}
    assert names == {"training", *(f"table{i}" for i in range(1, 11))}
    assert all(published.lines(name) for name in names)
