"""One run explained: its settings, its numbers and what they stand on, and how it is made again."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.errors import SkipditError
from skipdit_cli.recipe.again import making
from skipdit_cli.recipe.recipe import TIMINGS
from skipdit_cli.recipe.runs import from_dict
from skipdit_cli.report.gallery import sample_label
from skipdit_cli.report.scores import from_worst
from skipdit_cli.storage import shelf
from skipdit_cli.storage.failures import read_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skipdit_cli.storage.results import Result
    from skipdit_cli.storage.shelf import Shelved


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What there is to say of a run.

    Attributes:
        run: the run.
        reference: what it is compared with, of the runs that are there; None for an uncached one
            that is compared with none of more steps.
        compared: the runs that are compared with it.
        failures: why something failed: "samples", "timing" or a metric -> the reason.
        again: the command that makes its samples, "" where no single one on this machine does.
        changed: why what is installed now would make other samples, or "".
    """

    run: "Shelved"
    reference: "Shelved | None"
    compared: "tuple[Shelved, ...]"
    failures: dict[str, str]
    again: str
    changed: str

    @property
    def scores(self) -> "list[Result]":
        """Its scores by metrics, against each run that it was compared with."""
        return [each for each in self.run.numbers if each.metric not in TIMINGS]

    @property
    def timings(self) -> "list[Result]":
        """Its latency, speedup and memory."""
        return [each for each in self.run.results.values() if each.metric in TIMINGS]

    @property
    def content(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            **self.run.content,
            "folder": str(self.run.store.path),
            "bytes": self.run.sizes,
            "scores": [asdict(each) for each in self.scores],
            "timings": [asdict(each) for each in self.timings],
            "failures": self.failures,
            "provenance": dict(self.run.provenance),
            "reference": self.reference.key if self.reference else None,
            "compared": [run.key for run in self.compared],
            "again": self.again or None,
            "changed": self.changed or None,
        }


def explain(run: "Shelved", runs: "Sequence[Shelved]") -> Explained:
    """Look at one of the runs of a results folder.

    Raises:
        StoreError: the disk cannot be read.
    """
    again, changed = _again(run)
    return Explained(
        run=run,
        reference=next((each for each in runs if run.compares_with(each)), None),
        compared=tuple(shelf.compared_with(run, runs)),
        failures={what: read_failure(run.root, run.key, what) for what in run.failed},
        again=again,
        changed=changed,
    )


@dataclass(frozen=True)
class Scored:
    """One sample of a run by one metric.

    Attributes:
        metric, unit, score: the number.
        sample: its index.
        about: what it was to show.
        file: where it is.
    """

    metric: str
    score: float
    unit: str
    sample: int
    about: str
    file: str


def worst(run: "Shelved", count: int) -> list[Scored]:
    """The samples of a run that have the worst scores, by every metric that scores single ones."""
    found = []
    for result in run.numbers:
        if not (scores := result.of_samples) or not registry.known("metrics", result.metric):
            continue
        better = registry.load("metrics", result.metric).BETTER
        for index in from_worst(scores, better=better)[:count]:
            there = index in run.store.entered()
            about = sample_label(index, run.store.meta(index) if there else {})
            file = str(run.store.file(index)) if there else ""
            found.append(Scored(result.metric, scores[index], result.unit, index, about, file))
    return found


def outdated(result: "Result") -> str:
    """Why a score would be made again by what is installed now, or ""."""
    if not registry.known("metrics", result.metric):
        return ""
    version = registry.load("metrics", result.metric).VERSION
    return "" if result.version == version else f"of version {result.version}, now {version}"


def _again(run: "Shelved") -> tuple[str, str]:
    """The command that makes a run, and why it makes other samples."""
    if not run.made:
        return "", "what it was made with is not known"
    try:
        now = from_dict(run.made)
    except (SkipditError, ValueError) as error:
        return "", f"it cannot be read by the code that is installed now ({error})"
    again = making(now)
    if again and run.root != Path("results"):
        again += f" --results {shlex.quote(str(run.root))}"
    if now.key == run.key:
        return again, ""
    now_is = now.to_dict()["versions"]
    differ = [
        f"{name} {version}, now {now_is.get(name, 'without')}"
        for name, version in run.made.get("versions", {}).items()
        if now_is.get(name) != version
    ]
    return again, f"it was made by code that has changed since: {', '.join(differ)}"
