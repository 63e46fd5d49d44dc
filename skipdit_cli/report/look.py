"""How figures look: what tells series apart, sizes for a screen and for a paper, and their files.

Ten colours that are told apart with every common colour vision, eleven markers and four dashes: two
series that share one of them differ in another, so that grey print tells them apart as well.
"""

import io
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = (
    *("#2773fd", "#ce830e", "#054301", "#e81379", "#5e009c"),
    *("#756501", "#a189cd", "#921358", "#0705ea", "#3a0d41"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
DASHES = ((), (5, 2), (1.2, 1.5), (5, 1.5, 1.2, 1.5))  # on and off, in widths of the line
INK, FAINT, GRID = "#1a1a1a", "#666666", "#dddddd"
CHARACTER = 0.58  # of the font's size that a character takes, on average
HANDLE, GAP = (
    2.8,
    1.0,
)  # of a legend, in its font's size: the line of a series, and what is about it
FORMATS = ("pdf", "svg", "png")
# Of every format, so that the same table gives the same bytes.
UNDATED: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Look:
    """Sizes of a figure.

    Attributes:
        width: in inches.
        text: size of the labels of axes, in points; what is beside them is a point smaller.
        line, marker: widths in points.
        dpi: dots per inch of a PNG.
        paper: whether it is for a paper, whose caption says what its title would.
    """

    width: float
    text: float
    line: float
    marker: float
    dpi: int
    paper: bool = True

    @property
    def small(self) -> float:
        """Size of the numbers at axes, of legends and of labels in the figure."""
        return self.text - 1

    def characters(self, width: float) -> int:
        """How many characters of the small size fit beside one another in so many inches."""
        return max(1, int(width * 72 / (CHARACTER * self.small)))

    def columns(self, labels: Iterable[str]) -> int:
        """How many columns a legend of these labels has below a figure."""
        from matplotlib.textpath import TextPath

        lines = [line for label in labels for line in label.splitlines()]
        longest = max(TextPath((0, 0), line, size=self.small).get_extents().x1 for line in lines)
        one = longest + (HANDLE + 2 * GAP) * self.small
        return max(1, int((self.width * 72 - self.small) / one))

    def rows(self, labels: Collection[str]) -> float:
        """How high such a legend is, in inches."""
        lines = sum(1 + label.count("\n") for label in labels)
        return math.ceil(lines / self.columns(labels)) * 1.5 * self.small / 72

    def legend(self, made: "Figure", lines: "Sequence[Line2D]") -> None:
        """Put a legend of these lines below the axes, where it covers nothing."""
        labels = [str(line.get_label()) for line in lines]
        made.legend(
            lines,
            labels,
            loc="outside lower center",
            ncols=self.columns(labels),
            frameon=False,
            handlelength=HANDLE,
            handletextpad=GAP / 2,
            columnspacing=GAP,
            borderpad=0.2,
            labelspacing=0.3,
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """matplotlib draws in these sizes, with fonts inside of what it writes."""
        from matplotlib import rc_context

        settings: dict[Any, Any] = {
            "font.size": self.small,
            "axes.labelsize": self.text,
            "axes.titlesize": self.text,
            "figure.titlesize": self.text,
            "legend.fontsize": self.small,
            "xtick.labelsize": self.small,
            "ytick.labelsize": self.small,
            "lines.linewidth": self.line,
            "lines.markersize": self.marker,
            "hatch.linewidth": self.line / 2,
            "axes.linewidth": 0.4 * self.line,
            "xtick.major.width": 0.4 * self.line,
            "ytick.major.width": 0.4 * self.line,
            "text.color": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "pdf.fonttype": 42,  # TrueType; journals refuse matplotlib's default, Type 3
            "svg.fonttype": "path",  # the same letters wherever it is opened
            "svg.hashsalt": "skipdit",
        }
        with rc_context(settings):
            yield


SCREEN = Look(width=10, text=13, line=2, marker=8, dpi=100, paper=False)
WIDTHS = {
    "column": Look(width=3.35, text=8, line=1, marker=4, dpi=600),
    "page": Look(width=7.0, text=8, line=1.2, marker=5, dpi=600),
}


def dashes(index: int) -> Any:
    """The line of a series, as matplotlib takes it."""
    return (0, DASHES[index % len(DASHES)]) if index % len(DASHES) else "-"


def figure(look: Look, height: float, *, width: float | None = None) -> "Figure":
    """An empty figure of so many inches; `look` has to be applied."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width or look.width, height), dpi=look.dpi, layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made: "Figure", path: Path) -> Path:
    """Write a figure in the format that its path ends in; returns the path.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    data, form = io.BytesIO(), path.suffix.removeprefix(".")
    made.savefig(data, format=form, metadata=UNDATED[form])
    write_whole(path, data.getvalue())
    return path
