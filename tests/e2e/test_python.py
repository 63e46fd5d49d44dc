"""The example of docs/python.md, run as it is written on a shorter sweep of its own."""

import re
from pathlib import Path

import pytest

import skipdit_cli
from skipdit_cli.recipe import published

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
SHORT = "--num-samples 3 --batch-size 3 --steps 10 --repeats 1"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
def test_the_example(skipdit, tmp_path, capsys):
    (command,), (code,) = blocks("sh"), blocks("python")
    assert 20 <= len(code.splitlines()) <= 40
    skipdit(f"{command.removeprefix('skipdit').strip()} {SHORT}").ok()
    names: dict = {}
    exec(compile(code, "python.md", "exec"), names)

    caches = [*names["psnr"].index]
    assert sorted(re.search(r"n=(\d)", cache)[1] for cache in caches) == [*"23456"]
    assert names["psnr"].speedup.is_monotonic_increasing
    assert (names["psnr"].value > 10).all()
    assert (names["bars"][0] >= 0).all()
    assert (names["bars"][1] >= 0).all()
    assert (tmp_path / "psnr-speedup.png").stat().st_size > 5000

    assert len(names["flops"]) == 14
    fora = published.numbers("table3", {"method": "FORA"})
    assert names["flops"].paper["FORA"] == fora["flops_t"]
    assert names["flops"].apart.abs().max() < 0.05
    out = capsys.readouterr().out
    assert "ssim" in out
    assert re.search(r"^FORA +1341\.801 +1341\.72 +0\.006$", out, re.MULTILINE)


def test_the_columns_are_those_of_the_page(skipdit):
    skipdit("cache-sweep --model digits-skip --n 2 --num-samples 1 --steps 2 --repeats 0").ok()
    listed = re.search(r"\| column \|.*?\n\n", PAGE, re.DOTALL)[0].strip().splitlines()[2:]
    named = [name for line in listed for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert sorted(named) == sorted(skipdit_cli.frame("results").columns)


def test_the_rest_of_the_package_has_no_such_name():
    with pytest.raises(AttributeError, match="module 'skipdit_cli' has no attribute 'fame'"):
        skipdit_cli.fame  # noqa: B018
