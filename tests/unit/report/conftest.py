"""A small table, worked out by hand, that has every kind of cell."""

import pytest

from skipdit_cli.report.table import Cell, Heading, Line, Table

HEADINGS = (
    Heading("flops_t", "macs", "FLOPs", "T"),
    Heading("psnr", "psnr", "PSNR", "dB", "higher"),
    Heading("lpips", "lpips", "LPIPS", "", "lower", 3),
)


@pytest.fixture
def compared() -> Table:
    """Beside published values."""
    return Table(
        title="Table 0: by hand (paper scale)",
        names=("method",),
        headings=HEADINGS,
        lines=(
            Line(
                ("Skip-DiT",),
                (
                    Cell(paper=290.05, ours=290.049970, status="match"),
                    Cell(status="reference"),
                    Cell(status="not run"),
                ),
                runs=("aaaa",),
                reference=True,
                spec="none",
            ),
            Line(
                ("a|b, n=2",),
                (
                    Cell(paper=180.68, ours=184.1806, status="off"),
                    Cell(
                        paper=29.52,
                        ours=28.0449,
                        n=16,
                        spread=1.5,
                        interval=(26.5449, 29.5449),
                        status="off",
                    ),
                    Cell(paper=0.06, ours=0.0604, n=16, status="match"),
                ),
                runs=("bbbb", "cccc"),
            ),
            Line(
                ("FORA",),
                (
                    Cell(paper=1341.72, status="planned", note="FORA comes later"),
                    Cell(paper=22.93, status="needs weights", note="run `skipdit download x`"),
                    Cell(ours=0.00123, n=4, paper=0.14, status="tiny scale"),
                ),
            ),
            Line(
                ("PAB",),
                (
                    Cell(status="planned", note="PAB comes later"),
                    Cell(ours=21.0, n=16, status="measured"),
                    Cell(paper=0.2, status="planned", note="FORA comes later"),
                ),
            ),
        ),
        notes=("FLOPs are MACs.",),
        provenance={"skipdit": "0.1.0 (commit 0123456789)", "torch": "2.13.0"},
        command="skipdit cache-sweep --recipe table0",
    )


@pytest.fixture
def small() -> Table:
    """At the tiny scale: the paper's values in a column of their own, where the two compare."""
    return Table(
        title="Table 0: by hand (tiny scale)",
        names=("method",),
        headings=(
            Heading("psnr", "psnr", "PSNR", "dB", "higher"),
            Heading("speedup", "speedup", "Speedup", "", "higher", paper=True),
        ),
        lines=(
            Line(
                ("Skip-DiT",),
                (Cell(status="reference"), Cell(paper=1.0, ours=1.0, status="tiny scale")),
                reference=True,
            ),
            Line(
                ("Skip-Cache n=2",),
                (
                    Cell(ours=30.0, interval=(28.0, 32.0), n=16, status="tiny scale"),
                    Cell(paper=1.56, ours=1.25, interval=(1.15, 1.35), status="tiny scale"),
                ),
            ),
            Line(
                ("mine",),
                (
                    Cell(status="not run"),
                    Cell(ours=1.5, interval=(1.4, 1.6), status="tiny scale"),
                ),
            ),
        ),
        published=False,
        margins=False,
        notes=("Every score is of 16 samples.",),
    )


@pytest.fixture
def alone() -> Table:
    """Without published values."""
    return Table(
        title="a sweep",
        names=("model", "cache"),
        headings=(
            Heading("ideal", "ideal", "ideal speedup"),
            Heading("speedup", "speedup", "speedup", "", "higher"),
            Heading("psnr", "psnr", "PSNR", "dB", "higher"),
        ),
        lines=(
            Line(
                ("toy", "no cache"),
                (
                    Cell(ours=1.0, status="measured"),
                    Cell(ours=1.0, interval=(0.996, 1.004), n=5, status="measured"),
                    Cell(status="reference"),
                ),
                reference=True,
            ),
            Line(
                ("toy", "skip-cache n=2"),
                (
                    Cell(ours=1.5, status="measured"),
                    Cell(ours=1.4567, interval=(1.4255, 1.4879), n=5, status="measured"),
                    Cell(ours=30.0, interval=(27.874, 32.126), n=16, status="measured"),
                ),
                series="skip-cache",
                point="n=2",
            ),
            Line(
                ("toy", "skip-cache n=3"),
                (
                    Cell(ours=2.0, status="measured"),
                    Cell(ours=1.9, interval=(1.88, 1.92), n=5, status="measured"),
                    Cell(ours=26.0, n=16, status="measured"),
                ),
                series="skip-cache",
                point="n=3",
            ),
            Line(
                ("toy", "skip-cache n=4"),
                (
                    Cell(ours=2.2, status="measured"),
                    Cell(status="failed", note="the disk is full"),
                    Cell(status="failed", note="the disk is full"),
                ),
                series="skip-cache",
                point="n=4",
            ),
        ),
        published=False,
    )
