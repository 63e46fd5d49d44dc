"""The committed analyses: what docs/analysis.md says is what results/analysis holds."""

from pathlib import Path

import pytest

from skipdit_cli.report.analysis import to_html
from skipdit_cli.storage.analysis import read_analysis

ROOT = Path(__file__).parents[2]
KINDS = ("smoothness", "dynamics", "similarity", "spectra", "sensitivity")
GROUPS = (
    ("digits", "digits-skip"),
    ("moving-digits", "moving-digits-skip"),
    ("captioned-digits", "captioned-digits-skip"),
    ("fashion", "fashion-skip"),
    ("painted-digits",),
)


def lines(kind, models, model):
    found = read_analysis(ROOT / "results", kind, models)
    return [line for line in found.summary if line["model"] == model]


def row(models, model):
    """A line of the table."""
    shares = [line["share above 0.95"] for line in lines("smoothness", models, model)]
    alike = next(line for line in lines("dynamics", models, model) if line["half"] == "conditional")
    cached = next(
        line for line in lines("similarity", models, model) if line["cache"].startswith("fora")
    )
    norms = [line["largest stack norm"] for line in lines("spectra", models, model)]
    (strays,) = lines("sensitivity", models, model)
    parts = (
        model,
        " / ".join(f"{share:.2f}" for share in shares),
        f"{alike['similarity']:.4f}",
        f"{cached['sample error']:.4f}",
        " / ".join(f"{norm:.1f}" for norm in norms),
        f"{strays['mean']:.1f}",
    )
    return f"| {' | '.join(parts)} |"


def verdicts(models):
    """What the analyses of two models say of the two."""
    said = [note for kind in KINDS for note in read_analysis(ROOT / "results", kind, models).notes]
    return [note for note in said if note.startswith("At step") or " less " in note[:60]]


@pytest.mark.parametrize("models", GROUPS, ids=lambda models: models[-1])
def test_the_page_has_the_numbers(models):
    page = (ROOT / "docs" / "analysis.md").read_text(encoding="utf-8")
    for model in models:
        assert row(models, model) in page


@pytest.mark.parametrize("models", GROUPS, ids=lambda models: models[-1])
def test_samples_stray_less_with_skip_cache_in_three_pairs(models):
    """By intervals that are apart; of two models it cannot be told."""
    skip, fora = (line["95 % interval"] for line in lines("similarity", models, models[-1]))
    assert (skip[1] < fora[0]) == (models[-1] not in ("painted-digits", "fashion-skip"))


@pytest.mark.parametrize("models", GROUPS, ids=lambda models: models[-1])
def test_the_committed_ones_make_a_page(models):
    found = [read_analysis(ROOT / "results", kind, models) for kind in KINDS]
    assert all("50" in str(each.settings["steps"]) for each in found)
    page = to_html(found)
    assert page.count("<figure") == sum(len(each.panels) for each in found)
    assert "/tmp" not in page


if __name__ == "__main__":  # the lines of the page, and what stands behind its sentences
    print(*(row(models, model) for models in GROUPS for model in models), sep="\n")
    print(*(note for models in GROUPS[:4] for note in verdicts(models)), sep="\n")
