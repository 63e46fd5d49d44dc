"""Target: the settings with which every method comes nearest to a given cost, found by counting.

Each method says which values of its settings are worth a try (`choices`); all of them are crossed
and counted, as `plan` counts a run. Nothing is run, so that a method that decides while it runs is
left out.
"""

import functools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.cache import Cache, CacheSpec
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.plan.plan import schedule
from skipdit_cli.profiling import counts
from skipdit_cli.profiling.cost import Cost
from skipdit_cli.recipe import calibration

if TYPE_CHECKING:
    from skipdit_cli.caches import Method
    from skipdit_cli.run import Run

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
) -> Search:
    """The settings of every method that come nearest to a target.

    Args:
        run: an uncached one, for the model and how it is sampled.
        methods: names; all but none by default.
        only: by name, the values to which a setting is held.
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
            if methods is None and not varied:
                continue  # no cache
            found = nearest(run, target, method, varied)
        except (UsageError, MissingAssetError) as error:
            made.left_out[name] = str(error)
        else:
            made.found[name], made.searched[name] = found, list(varied)
    if not made.found:
        raise UsageError(
            f"nothing comes near {target} ({'; '.join(made.left_out.values())})",
            place="--target-macs" if target.macs else "--target-speedup",
        )
    return made


def _varied(
    method: "Method", run: "Run", only: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """The values that are tried of every setting, its default first.

    Raises:
        UsageError: the method decides while it runs, or has no setting of a name in `only`.
    """
    if method.DYNAMIC:
        raise UsageError(f"{method.name} decides while it runs, so that counting cannot tell")
    usual = {each.name: each.default for each in fields(method.Config)}
    known = method.choices(run.cache.layout, len(run.timesteps))
    for name in only:
        if usual and name not in usual:
            raise UsageError(f"{method.name} has no setting {name}")
    varied: dict[str, list[Any]] = {}
    for name, values in known.items():
        tried = only.get(name) or dict.fromkeys([usual[name], *values])
        if math.prod(map(len, varied.values())) * len(tried) <= MOST:
            varied[name] = list(tried)
    return varied | {name: list(only[name]) for name in only if name in usual.keys() - varied}


def nearest(
    run: "Run", target: Target, method: "Method", varied: Mapping[str, Sequence[Any]]
) -> list[Found]:
    """The nearest settings of a method, then the nearest of other windows that cost the same.

    Of settings that are as near as one another, those that change the least of the defaults.

    Args:
        varied: by name, the values that are crossed.
    Raises:
        UsageError: no combination has a meaning on the model, or there is nothing to vary.
        MissingAssetError: the method has to be calibrated first.
    """
    if not varied:
        raise UsageError(f"{method.name} has no settings to vary")
    ordered = sorted(
        _counted(run, target, method, varied),
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
    measured = _calibrated(run, method)
    costs = counts.costs(run.card)
    step = functools.cache(costs.step)

    def cost(steps: Sequence[tuple[Any, int]]) -> Cost:
        times = Counter(steps).items()
        return sum((step(sites) * halves * n for (sites, halves), n in times), start=Cost())

    uncached = cost(schedule(run.cache, run))
    seen: set[tuple[Any, ...]] = set()
    refused: UsageError | None = None
    for values in product(*varied.values()):
        try:
            spec = CacheSpec(method, method.Config(**dict(zip(varied, values, strict=True))))
            full = replace(spec, config=replace(spec.config, **measured))
            cache = full.resolve(run.cache.layout)
        except UsageError as error:
            refused = refused or error
            continue
        steps = tuple(schedule(cache, run))
        if steps not in seen:
            seen.add(steps)
            reached = target.reached(cost(steps), uncached)
            yield Found(spec, cache, reached, abs(reached / target.value - 1))
    if not seen:
        raise refused or UsageError(f"{method.name} has no settings to vary")


def _calibrated(run: "Run", method: "Method") -> dict[str, Any]:
    """The settings that were measured on the model."""
    usual = CacheSpec(method, method.Config())
    full = calibration.complete(
        usual, run.card, fingerprint=run.weights, sampler=run.sampler, steps=run.steps
    )
    return {name: vars(full.config)[name] for name in method.CALIBRATED}
