"""Figures for a paper: which there are, how large, with their fonts, and readable at that size."""

import re
from dataclasses import replace

import pytest
from matplotlib.text import Text
from PIL import Image

from skipdit_cli.errors import SkipditWarning, UsageError
from skipdit_cli.report import curves, figures, look, plots
from skipdit_cli.report.curves import RunCurve
from skipdit_cli.report.gallery import Behind
from skipdit_cli.report.table import Cell, Heading, Line, Table

NOWHERE = Behind("nowhere")
METHODS = (
    *("skip-cache", "fora", "pab", "t-gate", "teacache", "mag-cache", "delta-dit", "first-block"),
    *("taylorseer", "faster-cache branch=2, window 1000-0"),
)


@pytest.fixture(scope="module")
def ten() -> Table:
    """Ten methods at four settings each."""
    lines = [
        Line(
            (f"{name} n={n}",),
            (
                Cell(ours=1 + 0.1 * n + 0.06 * i, status="measured"),
                Cell(ours=45 - 3 * n - i, interval=(44.5 - 3 * n - i, 46 - 3 * n - i), status=""),
                Cell(ours=0.1 * n, status="measured"),
            ),
            series=name,
            point=f"n={n}",
        )
        for i, name in enumerate(METHODS)
        for n in range(2, 6)
    ]
    headings = (
        Heading("speedup", "speedup", "speedup", better="higher"),
        Heading("psnr", "psnr", "PSNR", "dB", "higher"),
        Heading("lpips", "lpips", "LPIPS", better="lower"),
    )
    return Table("ten methods", ("cache",), headings, tuple(lines), published=False)


@pytest.fixture(scope="module")
def drawn(ten):
    """Its figures, and one of ten curves, unsaved, one column wide."""
    size = look.WIDTHS["column"]
    points = tuple((1000 - 20 * i, 1e-4 * (i + 1)) for i in range(50))
    group = [RunCurve(f"{name} n=2, 700-50", "", points, 4) for name in METHODS]
    with size.applied():
        made = [plots.draw(one, size, title="") for one in plots.scatters(ten)]
        made.append(curves.draw(group, size, title=""))
        for figure in made:
            figure.draw_without_rendering()
    return made


def test_texts_are_readable_and_all_is_within_the_figure(drawn):
    for figure in drawn:
        assert figure.get_size_inches()[0] == 3.35
        texts = [each for each in figure.findobj(Text) if each.get_text()]
        assert len(texts) > 20
        assert all(7 <= each.get_fontsize() <= 8 for each in texts)
        inside, whole = figure.get_tightbbox(), figure.bbox_inches
        assert min(*inside.p0, *(whole.p1 - inside.p1)) >= 0


def test_no_two_series_of_a_figure_look_alike_in_grey(drawn):
    for figure in drawn:
        (axes,) = figure.axes
        lines = [each for each in axes.lines if each.get_marker() in look.MARKERS]
        assert len(lines) == len(METHODS)
        assert len({each.get_marker() for each in lines}) == len(METHODS)
        assert len({each.get_color() for each in lines}) == len(METHODS)
        assert {each.get_linestyle() for each in lines} == {"-", "--"}  # as it calls all dashes


def test_labels_cover_neither_markers_nor_one_another(drawn, ten):
    (axes,) = drawn[0].axes
    texts = [each for each in axes.findobj(Text) if re.fullmatch(r"n=\d", each.get_text())]
    boxes = [each.get_window_extent() for each in texts]
    assert len(boxes) > 12
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    spots = [axes.transData.transform(point.at) for point in plots.scatters(ten)[0].points]
    assert not any(box.contains(*spot) for box in boxes for spot in spots)


def test_pdf_has_its_size_and_its_fonts(ten, tmp_path):
    few, wanted = replace(ten, lines=ten.lines[:4]), figures.wanted("pdf", "column")
    paths = figures.draw(few, NOWHERE, tmp_path, name="mine", figures=wanted)
    assert [path.name for path in paths] == ["mine-psnr-speedup.pdf", "mine-lpips-speedup.pdf"]
    for path in paths:
        data = path.read_bytes()
        (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", data)
        assert float(box[0]) == pytest.approx(3.35 * 72)
        assert 1.5 * 72 < float(box[1]) < 5 * 72
        assert set(re.findall(rb"/FontFile\d?", data)) == {b"/FontFile2"}  # TrueType
        assert b"/Type3" not in data
    before = paths[0].read_bytes()
    figures.draw(few, NOWHERE, tmp_path, name="mine", figures=wanted)
    assert paths[0].read_bytes() == before


def test_svg_needs_no_font_and_png_has_the_dots_of_print(ten, tmp_path):
    table = replace(ten, lines=ten.lines[:4])
    wanted = figures.wanted("svg, png", "page")
    paths = figures.draw(table, NOWHERE, tmp_path, name="mine", figures=wanted)
    svg, png, *_ = paths
    text = svg.read_text(encoding="utf-8")
    assert 'width="504pt"' in text
    assert "<text" not in text
    with Image.open(png) as picture:
        assert picture.width == 7 * 600


def test_what_cannot_be_read_is_told():
    assert figures.wanted(None, None) is None
    assert figures.wanted("png,pdf,png", None) == figures.Wanted(
        ("png", "pdf"), look.WIDTHS["column"]
    )
    for given, said in {
        ("eps", None): "--figure: unknown figure format 'eps'; known: pdf, png, svg",
        ("", None): "--figure: unknown figure format ''; known: pdf, png, svg",
        ("pdf", "wide"): "--width: unknown width 'wide'; known: column, page",
        (None, "page"): "--width: it is the width of figures; give --figure too, as --figure pdf",
    }.items():
        with pytest.raises(UsageError) as caught:
            figures.wanted(*given)
        assert str(caught.value) == said


def test_a_table_without_plots_says_so(compared, tmp_path):
    with pytest.warns(SkipditWarning, match="there is nothing to draw; no figure is written"):
        assert not figures.draw(
            compared, NOWHERE, tmp_path, name="a", figures=figures.wanted("svg", None)
        )
    assert figures.draw(compared, NOWHERE, tmp_path, name="a") == []


def test_a_second_column_of_a_metric_is_called_by_its_key(ten, tmp_path):
    """Two data sets have a PSNR each."""
    other = replace(ten.headings[1], key="coco_psnr")
    table = replace(ten, headings=(*ten.headings[:2], other), lines=ten.lines[:8])
    wanted = figures.wanted("svg", None)
    names = [p.name for p in figures.draw(table, NOWHERE, tmp_path, name="t", figures=wanted)]
    assert names == ["t-psnr-speedup.svg", "t-coco_psnr-speedup.svg"]


def test_figures_that_show_nothing_any_more_go_and_those_of_others_stay(ten, tmp_path):
    wanted = figures.wanted("svg", None)
    table = replace(ten, lines=ten.lines[:4])
    figures.draw(table, NOWHERE, tmp_path, name="mine", figures=wanted)
    others = [
        "mine-2-psnr-speedup.svg",  # of the table mine-2
        "mine-heat-psnr-speedup.svg",  # of the table mine-heat
        "mine-psnr-speedup.pdf",
        "mine-notes.svg",
    ]
    for name in [*others, "mine-errors-2.svg", "mine-heat-psnr.svg"]:
        (tmp_path / name).write_bytes(b"")
    fewer = replace(table, headings=ten.headings[:2], lines=tuple(
        replace(line, cells=line.cells[:2]) for line in table.lines
    ))  # fmt: skip
    figures.draw(fewer, NOWHERE, tmp_path, name="mine", figures=wanted)
    assert {path.name for path in tmp_path.iterdir()} == {*others, "mine-psnr-speedup.svg"}
