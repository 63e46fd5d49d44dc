"""A gate: may what was measured now stand in for what was measured before?

A rule bounds the change of a metric or a timing, `psnr >= -0.3 dB` or `latency <= +5 %`, and is
checked for every run that both results folders have. Scores of the same samples are compared in
pairs; a timing by its median.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipdit_cli import registry
from skipdit_cli.errors import IncompleteError, UsageError, unknown
from skipdit_cli.score.certainty import Interval, paired
from skipdit_cli.score.paired import known, subject
from skipdit_cli.storage import shelf
from skipdit_cli.storage.results import COMPILING, TIMED, Result

RULE = re.compile(
    r"\s*(?P<metric>[\w@.-]+)\s*(?P<sign>>=|<=)\s*(?P<bound>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"\s*(?P<unit>%|[A-Za-z]\w*)?\s*"
)
SIZES = {  # of units that a bound may have, in that of the results
    "s": {"s": 1.0, "ms": 1e-3},
    "B": {"B": 1.0, "MiB": 2.0**20, "GiB": 2.0**30},
}


@dataclass(frozen=True)
class Rule:
    """A bound of a change.

    Attributes:
        text: as it was written.
        metric: name of a metric or timing.
        least: whether the bound is the least that the change may be; else the most.
        bound: in the unit.
        unit: "%" of the baseline, or a unit; "" for that of the metric.
    """

    text: str
    metric: str
    least: bool
    bound: float
    unit: str = ""

    def kept(self, change: float) -> bool:
        """Whether a change, in the rule's unit, is within the bound."""
        return change >= self.bound if self.least else change <= self.bound


@dataclass(frozen=True, kw_only=True)
class Check:
    """A rule for one run.

    Attributes:
        rule: the rule.
        run: what the run is called.
        before, after: the numbers, in the unit of the metric.
        change: in the rule's unit.
        interval: 95 % interval of the change, in pairs; None where none is known.
        n: samples that were compared in pairs; 0 where none were.
    """

    rule: Rule
    run: str
    before: float
    after: float
    change: float
    interval: Interval | None
    n: int

    @property
    def kept(self) -> bool:
        """Whether the rule holds."""
        return self.rule.kept(self.change)

    @property
    def content(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            **{name: value for name, value in vars(self).items() if name != "rule"},
            "rule": self.rule.text,
            "metric": self.rule.metric,
            "unit": self.rule.unit,
            "kept": self.kept,
        }


def parse_rule(text: str, *, place: str = "") -> Rule:
    """Read `METRIC >= CHANGE [UNIT]` or `METRIC <= CHANGE [UNIT]`.

    Raises:
        UsageError: it is not of that form, or the metric or the unit is not known.
    """
    match = RULE.fullmatch(text)
    if not match:
        fix = 'write a metric, >= or <=, and a change: "psnr >= -0.3 dB", "latency <= +5 %"'
        raise UsageError(f"cannot read rule '{text}'", place=place, fix=fix)
    metric, unit = match["metric"], match["unit"] or ""
    timed = TIMED | COMPILING
    if metric not in timed and not registry.known("metrics", metric.partition(".")[0]):
        raise unknown("metric", metric, [*registry.names("metrics"), *timed], place=place)
    own = timed[metric] if metric in timed else registry.load("metrics", metric).UNIT
    units = SIZES.get(own, {own: 1.0} if own else {})
    if unit not in ("", "%", *units):
        known = ", ".join((*units, "%"))
        raise UsageError(f"{metric} has no unit {unit}", place=place, fix=f"take {known}")
    return Rule(text.strip(), metric, match["sign"] == ">=", float(match["bound"]), unit)


def checks(old: Path, new: Path, rules: Sequence[Rule]) -> list[Check]:
    """Every rule for every run that both results folders have it of, rule by rule.

    Args:
        old: the baseline.
        new: the candidate.
    Raises:
        IncompleteError: of a rule nothing is in both, or a run has lost what the rule is about.
        StoreError: the disk cannot be read.
    """
    before, after = _subjects(old), _subjects(new)
    found = []
    for rule in rules:
        of_rule = []
        for name, key in before.items():
            others = known(new, after[name], rule.metric) if name in after else {}
            for against, first in known(old, key, rule.metric).items():
                second, told = others.get(against), _called(name) + against
                if first.value is None:
                    continue
                if second is None or second.value is None:
                    raise IncompleteError(
                        f"{told} has no {rule.metric} in {new}, and has one in {old}",
                        place=f"rule '{rule.text}'",
                        fix="make the same in both",
                    )
                of_rule.append(_check(rule, told, first, second))
        if not of_rule:
            raise IncompleteError(
                f"no run has {rule.metric} in both {old} and {new}",
                place=f"rule '{rule.text}'",
                fix="score or time the same runs in both",
            )
        found += of_rule
    return found


def _subjects(root: Path) -> dict[tuple[tuple[str, str], ...], str]:
    """The keys of the runs in a results folder, by what they are of, whatever code made them.

    Of several the newest counts. What was timed in a batch of its own has no description, and is
    known by its key alone.
    """
    return {subject(run.made) or (("key", run.key),): run.key for run in shelf.shelf(root)}


def _called(name: Iterable[tuple[str, str]]) -> str:
    told = dict(name)
    if "key" in told:
        return f"run {told['key'][:8]}"
    return f"{told['model']} {told['cache']}"


def _check(rule: Rule, run: str, first: Result, second: Result) -> Check:
    before, after = first.value or 0.0, second.value or 0.0
    change, interval = after - before, None
    if n := min(len(first.of_samples), len(second.of_samples)):
        apart = paired(second.of_samples[:n], first.of_samples[:n])
        change, interval = apart.mean, apart.interval
    if rule.unit == "%":
        if not before:
            raise UsageError(
                f"{run} has a {rule.metric} of 0, of which there is no share",
                place=f"rule '{rule.text}'",
                fix="take a unit in place of %",
            )
        size = abs(before) / 100
    else:
        size = SIZES.get(first.unit, {}).get(rule.unit, 1.0)
    return Check(
        rule=rule,
        run=run,
        before=before,
        after=after,
        change=change / size,
        interval=interval and (interval[0] / size, interval[1] / size),
        n=n,
    )


def broken(found: Iterable[Check]) -> list[Check]:
    """Those that do not hold."""
    return [check for check in found if not check.kept]
