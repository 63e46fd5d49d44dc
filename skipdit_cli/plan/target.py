"""Target: the settings with which every method comes nearest to a given cost, found by counting.

Each method says which values of its settings are worth a try (`choices`); all of them are crossed
and counted, as `plan` counts a run. What a method reuses that decides while it runs, only a trial
can tell: a batch under a few thresholds, of which the cost is counted.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.cache import Cache, CacheSpec
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.plan.plan import schedule
from skipdit_cli.plan.threshold import close_in
from skipdit_cli.profiling import counts
from skipdit_cli.profiling.cost import Cost
from skipdit_cli.recipe import calibration
from skipdit_cli.sites import Site

if TYPE_CHECKING:
    from skipdit_cli.caches import Method
    from skipdit_cli.run import Run

Steps = Sequence[tuple[frozenset[Site], int]]  # as `schedule` gives them
Trial = Callable[["Run"], list[frozenset[Site]] | None]  # what a method reuses in a run, if known

THRESHOLD = "threshold"  # the setting of a method that decides while it runs, which is searched
NEAR = 0.02  # of the target: how far off counts as the same cost
WINDOWS = 4  # of a method that are told at most
MOST = 20_000  # combinations of a method that are counted at most


@dataclass(frozen=True)
class Target:
    """What a method is to come to.

    Attributes:
        value: the ideal speedup, 1.5; or the share of the uncached MACs, 0.6.
        macs: whether it is that share.
    """

    value: float
    macs: bool = False

    def __str__(self) -> str:
        return self.shown(self.value)

    @property
    def option(self) -> str:
        """What asks for it on a command line."""
        name, value = ("macs", f"{self.value * 100:.6g}%") if self.macs else ("speedup", self)
        return f"--target-{name} {value}".removesuffix("x")

    def shown(self, value: float) -> str:
        """A value as people read it: `1.5x`, or `60%` of MACs."""
        return f"{value * 100:.4g} % of MACs" if self.macs else f"{value:.4g}x"

    def reached(self, cost: Cost, uncached: Cost) -> float:
        """What a cache comes to: its share of MACs, or the ideal speedup that `plan` tells."""
        if self.macs:
            return cost.macs_paper / uncached.macs_paper
        return uncached.flops / cost.flops


@dataclass(frozen=True)
class Found:
    """Settings, and what they come to.

    Attributes:
        spec: what was chosen; its `brief` can be given as --cache.
        cache: the same on the model.
        reached: in the unit of the target.
        off: how far from the target that is, relative to it.
    """

    spec: CacheSpec
    cache: Cache
    reached: float
    off: float


@dataclass(frozen=True)
class Search:
    """What was found for every method, and why others were left out.

    Attributes:
        target: what was asked for.
        found: by method: the nearest first, then the nearest of other windows, where that is
            within NEAR or as near.
        searched: by method: the settings that were varied.
        left_out: by method: why.
    """

    target: Target
    found: dict[str, list[Found]]
    searched: dict[str, list[str]]
    left_out: dict[str, str]


def parse(*, speedup: str | None = None, macs: str | None = None) -> Target | None:
    """The target that `--target-speedup 1.5` or `--target-macs 60%` asks for; None without both.

    Raises:
        UsageError: both are given, or one cannot be read or is no saving.
    """
    if speedup is not None and macs is not None:
        raise UsageError("--target-speedup and --target-macs say the same", fix="give one of them")
    if speedup is not None:
        value = _number(speedup.removesuffix("x"))
        if not 1 < value < math.inf:
            raise UsageError(
                f"'{speedup}' is not a speedup", place="--target-speedup", fix="write 1.5, above 1"
            )
        return Target(value)
    if macs is not None:
        value = _number(macs.removesuffix("%")) / 100
        if not macs.endswith("%") or not 0 < value < 1:
            raise UsageError(
                f"'{macs}' is not a share of the uncached MACs",
                place="--target-macs",
                fix="write 60%, below 100%",
            )
        return Target(value, macs=True)
    return None


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text.strip()) else math.nan


def search(
    run: "Run",
    target: Target,
    *,
    methods: Sequence[str] | None = None,
    only: Mapping[str, Sequence[Any]] | None = None,
    trial: Trial = lambda run: None,
) -> Search:
    """The settings of every method that come nearest to a target.

    Args:
        run: an uncached one, for the model and how it is sampled.
        methods: names; all but none by default.
        only: by name, the values to which a setting is held.
        trial: what a method that decides while it runs reuses at every step of a run; None where
            that is not known.
    Raises:
        UsageError: an unknown method, or nothing can be found for any.
    """
    only = only or {}
    made = Search(target, {}, {}, {})
    names = methods if methods is not None else registry.names("caches")
    for name in dict.fromkeys(names):
        method = registry.load("caches", name, place="--method")
        try:
            varied = _varied(method, run, only)
            if methods is None and not varied and not method.DYNAMIC:
                continue  # no cache
            found = nearest(run, target, method, varied, trial=trial)
        except (UsageError, MissingAssetError) as error:
            made.left_out[name] = str(error)
        else:
            made.found[name], made.searched[name] = found, list(varied)
    if not made.found:
        raise UsageError(
            f"nothing comes near {target} ({'; '.join(made.left_out.values())})",
            place=target.option.split()[0],
        )
    return made


def _varied(
    method: "Method", run: "Run", only: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """The values that are tried of every setting, its default first.

    Raises:
        UsageError: the method has no setting of a name in `only`.
    """
    usual = {each.name: each.default for each in fields(method.Config)}
    for name in only:
        if usual and name not in usual:
            raise UsageError(f"{method.name} has no setting {name}")
    if method.DYNAMIC:
        return {THRESHOLD: [usual[THRESHOLD]]} if THRESHOLD in usual else {}
    known = method.choices(run.cache.layout, len(run.timesteps))
    varied: dict[str, list[Any]] = {}
    for name, values in known.items():
        tried = only.get(name) or dict.fromkeys([usual[name], *values])
        if math.prod(map(len, varied.values())) * len(tried) <= MOST:
            varied[name] = list(tried)
    return varied | {name: list(only[name]) for name in only if name in usual.keys() - varied}


def nearest(
    run: "Run",
    target: Target,
    method: "Method",
    varied: Mapping[str, Sequence[Any]],
    *,
    trial: Trial = lambda run: None,
) -> list[Found]:
    """The nearest settings of a method, then the nearest of other windows that cost the same.

    Of settings that are as near as one another, those that change the least of the defaults.

    Args:
        varied: by name, the values that are crossed.
        trial: as in `search`.
    Raises:
        UsageError: no combination has a meaning on the model, or there is nothing to vary; or a
            trial would have to be made.
        MissingAssetError: the method has to be calibrated first.
    """
    if not varied and method.DYNAMIC:
        raise UsageError(f"{method.name} decides while it runs, by no one threshold to search")
    if not varied:
        raise UsageError(f"{method.name} has no settings to vary")
    ordered = sorted(
        _tried(run, target, method, trial)
        if method.DYNAMIC
        else _counted(run, target, method, varied),
        key=lambda each: (round(each.off, 9), each.spec.brief.count("=")),
    )
    windows: dict[str, Found] = {}
    for each in ordered:
        windows.setdefault(each.cache.span, each)
    most = max(NEAR, round(ordered[0].off, 9))
    return [each for each in windows.values() if round(each.off, 9) <= most][:WINDOWS]


def _counted(
    run: "Run", target: Target, method: "Method", varied: Mapping[str, Sequence[Any]]
) -> Iterator[Found]:
    """Every combination that has a meaning; of those that reuse the same at every step, the first.

    Raises:
        UsageError: there is none; why the first one has none.
        MissingAssetError: the method has to be calibrated first.
    """
    measured = _Calibrated(run)
    reached = _reached(run, target)
    seen: set[tuple[Any, ...]] = set()
    refused: UsageError | MissingAssetError | None = None
    for values in product(*varied.values()):
        try:
            spec = CacheSpec(method, method.Config(**dict(zip(varied, values, strict=True))))
            cache = measured.completed(spec).resolve(run.cache.layout)
        except (UsageError, MissingAssetError) as error:
            refused = refused or error
            continue
        steps = tuple(schedule(cache, run))
        if steps not in seen:
            seen.add(steps)
            value = reached(steps)
            yield Found(spec, cache, value, abs(value / target.value - 1))
    if not seen:
        raise refused or UsageError(f"{method.name} has no settings to vary")


def _tried(run: "Run", target: Target, method: "Method", trial: Trial) -> list[Found]:
    """The thresholds that were tried of a method that decides while it runs.

    Raises:
        UsageError: it has no meaning on the model, or a trial is not known here.
        MissingAssetError: it has to be calibrated first.
    """
    measured, reached = _Calibrated(run), _reached(run, target)
    usual, found = method.Config(), {}

    def at(threshold: float) -> tuple[CacheSpec, Cache]:
        spec = CacheSpec(method, replace(usual, **{THRESHOLD: threshold}))
        return spec, measured.completed(spec).resolve(run.cache.layout)

    def left(value: float) -> float:
        return value if target.macs else 1 / value

    def share(threshold: float) -> float:
        spec, cache = at(threshold)
        seen = trial(replace(run, cache=cache))
        if seen is None:
            raise UsageError(
                f"{method.name} decides while it runs, and `skipdit profile --model {run.model} "
                f"--method {method.name}` with {target.option} finds its threshold"
            )
        value = reached(schedule(cache, run, seen))
        found[threshold] = Found(spec, cache, value, abs(value / target.value - 1))
        return left(value)

    first = vars(usual)[THRESHOLD]
    _, cache = at(first)
    once = [cache.skipped, *[frozenset()] * (len(run.timesteps) - 1)]
    gap = 1 - left(reached(schedule(cache, run, once)))
    close_in(share, wanted=left(target.value), first=first, gap=gap)
    return list(found.values())


def _reached(run: "Run", target: Target) -> Callable[[Steps], float]:
    """What a schedule comes to, in the unit of the target."""
    step = functools.cache(counts.costs(run.counted).step)

    def cost(steps: Steps) -> Cost:
        times = Counter(steps).items()
        return sum((step(sites, halves) * n for (sites, halves), n in times), start=Cost())

    uncached = cost(schedule(run.cache, run))
    return lambda steps: target.reached(cost(steps), uncached)


class _Calibrated:
    """Specs on the model of a run, with what was measured on it; each file is read once."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._known: dict[str, dict[str, Any] | UsageError | MissingAssetError] = {}

    def completed(self, spec: CacheSpec) -> CacheSpec:
        """The spec with nothing left out that is calibrated.

        Raises:
            UsageError, MissingAssetError: as `calibration.complete`.
        """
        method, run = spec.method, self._run
        of = f"{method.name} {method.variant(spec.config, run.cache.layout)}"
        if of not in self._known:
            try:
                full = calibration.complete(
                    spec,
                    run.card,
                    fingerprint=run.weights,
                    sampler=run.sampler,
                    steps=run.steps,
                    guidance=run.guidance,
                    texts=run.card.prompts or run.prompts,
                )
            except (UsageError, MissingAssetError) as error:
                self._known[of] = error
            else:
                self._known[of] = {name: vars(full.config)[name] for name in method.CALIBRATED}
        measured = self._known[of]
        if isinstance(measured, Exception):
            raise measured
        return replace(spec, config=replace(spec.config, **measured))
