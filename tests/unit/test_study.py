"""The committed study: what docs/forecasting.md says is what results/study holds."""

import csv
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "forecasting.md").read_text(encoding="utf-8")
MODELS = {
    "digits": "digits-skip",
    "captioned": "captioned-digits-skip",
    "moving": "moving-digits-skip",
    "painted": "painted-digits",
    "fashion": "fashion-skip",
}
FULL = {2: 25, 3: 17, 4: 13, 6: 9}  # n -> full steps of 50
SAMPLERS = ("ddim", "ddpm")


def rows(sampler):
    with (ROOT / "results" / "study" / f"{sampler}.csv").open(encoding="utf-8") as file:
        return {row["method"].lstrip("'"): row for row in csv.DictReader(file)}


def numbers(sampler, group, names, form="+.1f"):
    found = [float(rows(sampler)[name][f"{group}_psnr"]) for name in names]
    return " / ".join(f"{each:{form}}" for each in found)


def gains(sampler, group):
    """A line of the first table."""
    parts = (
        numbers(sampler, group, [f"skip-cache n={n}, K={k}" for n, k in FULL.items()], ".1f"),
        numbers(sampler, group, [f"order=1 - order=0, n={n}" for n in FULL]),
        numbers(sampler, group, [f"dp-cache K={k} - skip-cache n={n}" for n, k in FULL.items()]),
    )
    return f"| {MODELS[group]}, {sampler.upper()} | {' | '.join(parts)} |"


def others(sampler, group):
    """A line of the second table."""
    in_window = [f"dp-cache K={k} - skip-cache n={n} in window" for n, k in FULL.items() if n < 6]
    parts = (
        numbers(sampler, group, in_window),
        numbers(sampler, group, [f"dp-cache K={k} - fewer steps" for k in FULL.values()]),
        numbers(sampler, group, [f"skip-cache n={n} - fewer steps" for n in FULL]),
    )
    return f"| {MODELS[group]}, {sampler.upper()} | {' | '.join(parts)} |"


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("group", MODELS)
def test_the_page_has_the_numbers(sampler, group):
    assert gains(sampler, group) in PAGE
    assert others(sampler, group) in PAGE


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("group", MODELS)
def test_dp_cache_beats_skip_cache_at_as_many_full_steps(sampler, group):
    for n, k in FULL.items():
        row = rows(sampler)[f"dp-cache K={k} - skip-cache n={n}"]
        assert float(row[f"{group}_psnr_low"]) > 0
        assert int(row[f"{group}_psnr_n"]) == 64
        assert float(row[f"{group}_ideal"]) == pytest.approx(0, abs=1e-9)


def test_by_how_much_with_ddim():
    cells = [(n, k, group) for n, k in FULL.items() for group in MODELS]
    found = rows("ddim")
    dp = [float(found[f"dp-cache K={k} - skip-cache n={n}"][f"{g}_psnr"]) for n, k, g in cells]
    order = [float(found[f"order=1 - order=0, n={n}"][f"{g}_psnr"]) for n, _, g in cells]
    assert statistics.mean(dp) > 8
    assert f"{statistics.mean(dp):.1f} dB on average" in PAGE
    assert f"{min(order):.1f} to {max(order):.1f} dB" in PAGE


if __name__ == "__main__":  # the lines of the page
    for line in (gains, others):
        print(*(line(sampler, group) for sampler in SAMPLERS for group in MODELS), sep="\n")


@pytest.mark.parametrize("model", ["digits", "moving-digits"])
def test_the_page_has_the_numbers_of_the_training_study(model):
    """Last scores and ratio, word by word those of the committed table."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    told = (ROOT / "results" / "study" / "training" / model / "training.md").read_text("utf-8")
    lines = [line.split("|") for line in told.splitlines() if line.startswith(f"| {model}")]
    _, _, seeds, steps, vanilla, _, _, _ = lines[0]
    assert (seeds.strip(), len(lines)) == ("0, 1, 2", 2)
    (ratio,) = re.findall(rf"= (\S+x \(\S+ to \S+\)) for {model}-skip", told)
    cells = [steps, vanilla, lines[1][4], ratio]
    assert f"| {' | '.join(cell.strip() for cell in cells)} |" in page
