"""What is bold in a table, and what it says of that."""

from skipdit_cli.report.ranks import RULE, best, rule
from skipdit_cli.report.table import Cell, Heading, Line, Table

PSNR = Heading("psnr", "psnr", "PSNR", "dB", "higher")
SPEEDUP = Heading("speedup", "speedup", "speedup", "", "higher")


def table(heading, *cells):
    lines = (Line((str(i),), (cell,)) for i, cell in enumerate(cells))
    return Table("t", ("method",), (heading,), tuple(lines), published=False)


def scored(*scores):
    value = sum(scores) / len(scores)
    return Cell(ours=value, scores=scores, interval=(value - 1, value + 1), status="measured")


def test_few_samples_tell_no_two_apart_and_that_is_said():
    """Of five pairs a difference of one sign has a p of 2 in 32, of six 2 in 64."""
    few = table(PSNR, scored(9, 8, 9, 8, 9), scored(5, 4, 5, 4, 5))
    assert set(best(few)) == {(0, 0), (1, 0)}
    assert rule(few) == f"{RULE} Fewer than 6 samples, 5 here, are too few to tell any two apart."
    enough = table(PSNR, scored(9, 8, 9, 8, 9, 8), scored(5, 4, 5, 4, 5, 4))
    assert set(best(enough)) == {(0, 0)}
    assert rule(enough) == RULE


def test_of_a_single_repetition_no_timing_is_the_best():
    once = table(SPEEDUP, *(Cell(ours=x, scores=(x,), status="measured") for x in (2.0, 3.0)))
    assert best(once) == {}
    assert rule(once).endswith(
        "Timings of a single repetition are not told apart: no best is bold."
    )
    ends = ((1.9, 2.1), (2.9, 3.1))
    often = table(SPEEDUP, *(Cell(ours=sum(x) / 2, interval=x, status="measured") for x in ends))
    assert set(best(often)) == {(1, 0)}
    assert rule(often) == RULE


def test_ideal_speedups_are_counted_and_have_no_interval():
    counted = Heading("ideal", "ideal", "ideal speedup", "", "higher")
    assert set(best(table(counted, *(Cell(ours=x, status="measured") for x in (2.0, 3.0))))) == {
        (1, 0)
    }
