"""LaTeX is for print: what is bold, grey and escaped is fixed here, and that it compiles."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from skipdit_cli.report import latex, ranks
from skipdit_cli.report.table import Cell, Heading, Line, Table

COMPILER = shutil.which("pdflatex") or shutil.which("tectonic")
ROWS = r"""
\textcolor{gray}{Skip-DiT} & \textcolor{gray}{290.05 / 290.05} & \textcolor{gray}{\textit{reference}} & \textcolor{gray}{\textit{not run}} \\
a\textbar{}b, n=2 & 180.68 / 184.18 & 29.52 / \textbf{28.04} & 0.06 / 0.060 \\
FORA & 1341.72 / --\textsuperscript{1} & 22.93 / --\textsuperscript{2} & 0.14 / \textbf{0.00123} \\
PAB & \textit{planned}\textsuperscript{3} & -- / 21.00 & 0.20 / --\textsuperscript{1} \\
"""  # noqa: E501


def rows(text: str) -> str:
    return text.split("\\midrule\n", 1)[1].split("\\bottomrule")[0].strip()


def test_rows_beside_published_values(compared):
    assert rows(latex.to_latex(compared)) == ROWS.strip()


def test_rows_without_published_values(alone):
    lines = rows(latex.to_latex(alone)).splitlines()
    assert lines[1] == r"skip-cache n=2 & 1.50 & 1.46 $\pm$ 0.03 & \textbf{30.00} $\pm$ 2.13 \\"
    assert lines[2] == r"skip-cache n=3 & 2.00 & \textbf{1.90} $\pm$ 0.02 & 26.00 \\"
    assert lines[3].count(r"\textit{failed}\textsuperscript{1}") == 2


def test_rows_of_the_tiny_scale(small):
    text = latex.to_latex(small)
    lines = rows(text).splitlines()
    assert r"method & PSNR (dB) $\uparrow$ & Speedup $\uparrow$ & paper's \\" in text
    assert r"\begin{tabular}{lrrr}" in text
    assert lines[1] == r"Skip-Cache n=2 & \textbf{30.00} & 1.25 & 1.56 \\"
    assert lines[2] == r"mine & \textit{not run} & \textbf{1.50} & -- \\"


def test_what_stands_around_the_rows(compared):
    text = latex.to_latex(compared)
    assert text.startswith("% Needs \\usepackage{booktabs,graphicx,xcolor}; read this file with")
    assert "% skipdit cache-sweep --recipe table0\n" in text
    assert r"\caption{by hand (paper scale), after Table 0 of arXiv 2411.17616}" in text
    assert "% Made with skipdit 0.1.0 (commit 0123456789); torch 2.13.0.\n" in text
    assert r"method & FLOPs (T) & PSNR (dB) $\uparrow$ & LPIPS $\downarrow$ \\" in text
    assert r"\begin{tabular}{lrrr}" in text
    below = text.split(r"\end{tabular}")[1]
    for note in (r"\textsuperscript{1} FORA comes later", r"\texttt{skipdit download x}"):
        assert note in below
    assert "FLOPs are MACs." in below
    assert latex.escape(ranks.RULE) in below


def test_a_later_baseline_begins_a_group(compared):
    first, second, *others = compared.lines
    again = replace(compared, lines=(first, second, first, *others))
    assert latex.to_latex(again).count("\\midrule") == 2
    assert latex.to_latex(compared).count("\\midrule") == 1


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("50% & $1 #2 a_b {c}", r"50\% \& \$1 \#2 a\_b \{c\}"),
        ("a\\b ~ ^ <x> |", r"a\textbackslash{}b \textasciitilde{} \textasciicircum{} "
         r"\textless{}x\textgreater{} \textbar{}"),
        ("`a_b --c`", r"\texttt{a\_b -{}-c}"),
        ("2 × 3 – 4\n5", r"2 $\times$ 3 -- 4 5"),
    ],
)  # fmt: skip
def test_special_characters(text, printed):
    assert latex.escape(text) == printed


def number(better: str, *cells: Cell, baseline: Cell | None = None) -> dict:
    lines = [Line((f"m{i}",), (cell,)) for i, cell in enumerate(cells)]
    if baseline:
        lines.append(Line(("base",), (baseline,), reference=True))
    return ranks.best(Table("t", ("method",), (Heading("x", "x", "X", "", better),), tuple(lines)))


def test_the_best_follows_the_direction_of_its_column():
    one, two = Cell(ours=1.0, status="measured"), Cell(ours=2.0, status="measured")
    assert number("higher", one, two) == {(1, 0): "ours"}
    assert number("lower", one, two) == {(0, 0): "ours"}
    assert number("", one, two) == {}


def test_ours_and_the_papers_are_never_compared():
    ours, paper = Cell(ours=1.0, status="measured"), Cell(paper=9.0, status="not run")
    assert number("higher", ours, paper) == {(0, 0): "ours"}
    assert number("higher", paper, Cell(paper=8.0, status="not run")) == {(0, 0): "paper"}


def test_equal_print_ties_and_a_baseline_does_not_compete():
    cells = [Cell(ours=value, status="measured") for value in (2.001, 2.002, 1.0)]
    assert number("higher", *cells, baseline=Cell(ours=9.0, status="measured")) == {
        (0, 0): "ours",
        (1, 0): "ours",
    }


def known(ours: float, *scores: float, interval=None) -> Cell:
    return Cell(ours=ours, scores=scores or None, interval=interval, status="measured")


def test_all_that_cannot_be_told_from_the_best_are_bold():
    """Scores in pairs: one 0.1 below in every sample is told apart, one mixed is not."""
    scores = [20.0 + i for i in range(16)]
    mixed = [score + (0.1 if i % 2 else -0.3) for i, score in enumerate(scores)]
    cells = known(27.5, *scores), known(27.4, *mixed), known(27.4, *(s - 0.1 for s in scores))
    assert number("higher", *cells) == {(0, 0): "ours", (1, 0): "ours"}


def test_scores_that_do_not_pair_are_told_apart_by_their_intervals():
    best, near, far = (known(x, interval=(x - 1, x + 1)) for x in (30.0, 28.5, 27.9))
    assert number("higher", best, near, far) == {(0, 0): "ours", (1, 0): "ours"}
    assert number("higher", best, known(29.99)) == {(0, 0): "ours"}  # nothing known: as it is


def test_braces_and_environments_close(compared, alone):
    for table in (compared, alone):
        text = latex.to_latex(table)
        assert text.isascii()
        code = re.sub(r"\\[{}%]", "", text)
        assert code.count("{") == code.count("}")
        begun = re.findall(r"\\begin\{(.*?)\}", code)
        assert sorted(begun) == sorted(re.findall(r"\\end\{(.*?)\}", code))


@pytest.mark.skipif(not COMPILER, reason="no LaTeX here")
def test_it_compiles(compared, tmp_path):
    (tmp_path / "rows.tex").write_text(latex.to_latex(compared))
    committed = sorted((Path(__file__).parents[3] / "results" / "tiny").glob("table*.tex"))
    assert len(committed) == 8
    inputs = "".join(rf"\input{{{path}}}" for path in ("rows", *committed))
    document = r"\documentclass{article}\usepackage{booktabs,graphicx,xcolor}"
    (tmp_path / "all.tex").write_text(rf"{document}\begin{{document}}{inputs}\end{{document}}")
    options = ["-interaction=nonstopmode"] if "pdflatex" in str(COMPILER) else []
    done = subprocess.run(
        [str(COMPILER), *options, "all.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_scores_of_random_weights_are_never_the_best():
    cells = Cell(ours=2.0, status="measured"), Cell(ours=9.0, status="random weights")
    assert number("higher", *cells) == {(0, 0): "ours"}
