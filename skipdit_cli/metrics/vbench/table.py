"""VBench's 16 dimensions: their prompts, and how their scores become one.

Source of the constants: VBench scripts/constant.py (Vchitect/VBench 45e79ec), the same in VideoSys
eval/pab/vbench/cal_vbench.py; of the prompts: VBench_full_info.json of vbench 0.1.5.
"""

import functools
import json
import math
from collections.abc import Mapping
from typing import NamedTuple

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import IncompleteError, SkipditError


class Dimension(NamedTuple):
    """A raw score counts as weight * (raw - low) / (high - low) in its group, unclamped."""

    group: str
    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0
    custom: bool = True  # can be scored on prompts that are not VBench's
    detector: bool = False  # needs detectron2


DIMENSIONS = {
    "subject_consistency": Dimension("quality", low=0.1462),
    "background_consistency": Dimension("quality", low=0.2615),
    "temporal_flickering": Dimension("quality", low=0.6293),
    "motion_smoothness": Dimension("quality", low=0.706, high=0.9975),
    "dynamic_degree": Dimension("quality", weight=0.5),
    "aesthetic_quality": Dimension("quality"),
    "imaging_quality": Dimension("quality"),
    "object_class": Dimension("semantic", custom=False, detector=True),
    "multiple_objects": Dimension("semantic", custom=False, detector=True),
    "human_action": Dimension("semantic"),
    "color": Dimension("semantic", custom=False, detector=True),
    "spatial_relationship": Dimension("semantic", custom=False, detector=True),
    "scene": Dimension("semantic", high=0.8222, custom=False),
    "appearance_style": Dimension("semantic", low=0.0009, high=0.2855, custom=False),
    "temporal_style": Dimension("semantic", high=0.364),
    "overall_consistency": Dimension("semantic", high=0.364),
}
GROUPS = {"quality": 4, "semantic": 1}  # and their weights in the total
CLIPS = 5  # of each prompt


def members(group: str) -> tuple[str, ...]:
    """The dimensions of a group, or all of them for ""."""
    return tuple(name for name, each in DIMENSIONS.items() if group in ("", each.group))


def group_score(raw: Mapping[str, float], group: str, *, round_raw: bool = False) -> float:
    """Quality (7 dimensions) or semantic score (9), normally in 0 to 1, from raw scores in 0 to 1.

    The sum of the weighted, normalised scores, over the sum of the weights.

    Raises:
        IncompleteError: a dimension of the group is missing, and named; none counts as zero.
        SkipditError: a score is not finite.
    """
    names = members(group)
    if missing := [name for name in names if name not in raw]:
        raise IncompleteError(
            f"the {group} score of VBench lacks {', '.join(missing)}",
            fix=f"score all {len(names)} dimensions of {group} first",
        )
    if broken := [name for name in names if not math.isfinite(raw[name])]:
        raise SkipditError(f"VBench's {broken[0]} is {raw[broken[0]]}", fix="score it again")
    parts = [_weighted(raw[name], DIMENSIONS[name], round_raw=round_raw) for name in names]
    return sum(parts) / sum(DIMENSIONS[name].weight for name in names)


def _weighted(raw: float, dimension: Dimension, *, round_raw: bool) -> float:
    value = round(raw, 4) if round_raw else raw
    return dimension.weight * (value - dimension.low) / (dimension.high - dimension.low)


@functools.cache
def prompts() -> dict[str, tuple[str, ...]]:
    """The prompts of each dimension, in VBench's order, from the list that ships."""
    by_dimension: dict[str, list[str]] = {name: [] for name in DIMENSIONS}
    file = shipped.recipes() / "data" / "vbench.jsonl"
    lines = file.read_text(encoding="utf-8").split("\n")
    for entry in (json.loads(line) for line in lines if line):
        for name in entry["dimension"]:
            by_dimension[name].append(entry["prompt_en"])
    return {name: tuple(listed) for name, listed in by_dimension.items()}


@functools.cache
def all_prompts() -> frozenset[str]:
    """Every prompt of VBench, 944 of them."""
    return frozenset().union(*prompts().values())
