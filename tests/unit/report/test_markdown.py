"""Markdown is what people read: every character of it is fixed here."""

import re

import pytest

from skipdit_cli.report import cells, markdown, ranks
from skipdit_cli.report.table import Cell, Heading, Line, Table

BOLD = "BOLD", ranks.RULE  # of what stands below every table with a best number
COMPARED = """\
# Table 0: by hand (paper scale)

| method | FLOPs (T) | PSNR (dB) ↑ | LPIPS ↓ |
|:-|-:|-:|-:|
| Skip-DiT | 290.05 / 290.05 (0.00) match | reference | not run |
| a\\|b, n=2 | 180.68 / 184.18 (+3.50) off | 29.52 / **28.04** (-1.48, n=16) off | \
0.06 / 0.060 (0.000, n=16) match |
| FORA | 1341.72 / – planned [1] | 22.93 / – needs weights [2] | \
0.14 / **0.00123** (n=4) tiny scale |
| PAB | planned [3] | – / 21.00 (n=16) measured | 0.20 / – planned [1] |

A cell reads: paper / ours (difference, n = samples) status.

- match: the difference is within the tolerance of the column
- off: the difference is larger than that
- measured: the paper gives no value to compare with
- tiny scale: computed on an embedded model; not comparable with the paper
- reference: the uncached run that the others are compared with
- not run: no result on disk
- needs weights: a checkpoint, or a network that the metric needs, is not here; see the note
- planned: skipdit cannot measure this yet; see the note

1. FORA comes later
2. run `skipdit download x`
3. PAB comes later

- BOLD
- FLOPs are MACs.

Made with skipdit 0.1.0 (commit 0123456789); torch 2.13.0.

```
skipdit cache-sweep --recipe table0
```
"""

ALONE = """\
# a sweep

The same in all lines: model toy.

| cache | ideal speedup | speedup ↑ | PSNR (dB) ↑ |
|:-|-:|-:|-:|
| no cache | 1.00 | 1.00 ± 0.00 | reference |
| skip-cache n=2 | 1.50 | 1.46 ± 0.03 | **30.00** ± 2.13 |
| skip-cache n=3 | 2.00 | **1.90** ± 0.02 | 26.00 |
| skip-cache n=4 | 2.20 | failed [1] | failed [1] |

- reference: the uncached run that the others are compared with
- failed: the run ended with an error; see the note

1. the disk is full

- BOLD
"""


SMALL = """\
# Table 0: by hand (tiny scale)

| method | PSNR (dB) ↑ | Speedup ↑ | paper's |
|:-|-:|-:|-:|
| Skip-DiT | reference | 1.00 | 1.00 |
| Skip-Cache n=2 | **30.00** | 1.25 | 1.56 |
| mine | not run | **1.50** | – |

- reference: the uncached run that the others are compared with
- not run: no result on disk

- BOLD
- Every score is of 16 samples.
"""


def squeezed(text: str) -> str:
    """The text without the padding of table cells."""
    return re.sub(r"-{2,}", "-", re.sub(r" *\| *", "|", text))


def test_table_beside_published_values(compared):
    assert squeezed(markdown.to_markdown(compared)) == squeezed(COMPARED.replace(*BOLD))


def test_table_of_the_tiny_scale(small):
    assert squeezed(markdown.to_markdown(small)) == squeezed(SMALL.replace(*BOLD))


def test_table_without_published_values(alone):
    assert squeezed(markdown.to_markdown(alone)) == squeezed(ALONE.replace(*BOLD))


def test_the_body_is_padded_so_that_the_plain_text_lines_up():
    table = Table(
        title="t",
        names=("method",),
        headings=(Heading("x", "x", "FVD@digits", "", "lower"),),
        lines=(
            Line(("Latte",), (Cell(ours=155.216, status="measured"),)),
            Line(("Skip-DiT",), (Cell(ours=1.2, status="measured"),)),
        ),
        published=False,
    )
    assert markdown.body(table) == (
        "| method   |   FVD@digits ↓ |\n"
        "|:---------|---------------:|\n"
        "| Latte    |         155.22 |\n"
        "| Skip-DiT |       **1.20** |"
    )


def test_a_note_is_only_marked_where_it_is_listed(compared):
    assert "[1]" not in markdown.body(compared)
    assert "1341.72 / – planned |" in markdown.body(compared)


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [
        (180.676, 2, "180.68"),  # FLOPs in T
        (1.005e3, 2, "1005.00"),
        (29.5249, 2, "29.52"),  # PSNR
        (0.0604, 3, "0.060"),  # LPIPS
        (0.00123, 3, "0.00123"),  # small numbers keep three digits
        (0.04728, 2, "0.0473"),  # FLOPs of a tiny model in T
        (0.033, 2, "0.0330"),
        (-0.033, 2, "-0.0330"),
        (0, 2, "0.00"),
        (0.1, 2, "0.10"),
    ],
)
def test_numbers(value, decimals, text):
    assert cells.number(value, decimals) == text
