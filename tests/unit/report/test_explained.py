"""What is told of a run beside its files."""

from types import SimpleNamespace

from skipdit_cli.report.explained import worst
from skipdit_cli.storage.results import Result


def run(**scores):
    results = {
        metric: Result(metric=metric, value=0.0, unit="", n=len(each), run="r", scores=each)
        for metric, each in scores.items()
    }
    return SimpleNamespace(numbers=[*results.values()], store=SimpleNamespace(entered=frozenset))


def test_the_worst_samples_are_those_of_the_metric_s_worse_direction():
    found = worst(run(psnr=(30.0, 20.0, 25.0), lpips=(0.1, 0.3, 0.2)), 2)
    assert [(each.metric, each.sample, each.score) for each in found] == [
        ("psnr", 1, 20.0),
        ("psnr", 2, 25.0),
        ("lpips", 1, 0.3),
        ("lpips", 2, 0.2),
    ]
    assert (found[0].about, found[0].file) == ("#1", "")  # its file is gone


def test_repetitions_are_no_samples():
    assert worst(run(latency=(2.0, 1.0), nonsuch=(1.0,)), 3) == []
