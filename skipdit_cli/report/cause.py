"""Why a number is another one: the first thing that changed in what it was made from.

What a run was is in samples/RUN/run.json, what a score was in scores/RUN/METRIC.json. Where these
are not here, the Markdown beside a table still tells versions and device; else that is said.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skipdit_cli.report.table import FACTORS
from skipdit_cli.report.written import PAPER, content, counted
from skipdit_cli.score.certainty import Difference, paired
from skipdit_cli.score.paired import ALIKE

RUN = (
    *("model", "cache", "sampler", "steps", "guidance", "seed", "seeds", "classes", "prompts"),
    *("negative_prompt", "num_samples", "batch_size"),
    *("precision", "decode_precision", "compile", "quantize", "weights"),
)
SCORE = {
    "version": "metric version",
    "protocol": "protocol",
    "n": "n",
    "assets": "networks and references",
}
MADE = ("device", "tf32_matmul", "threads", "torch", "diffusers", "numpy", "scikit-image")
CODE = ("skipdit", "commit", "dirty")
TOLD = ("device", "torch")  # what the Markdown beside a table tells of these
Pair = Sequence[Mapping[str, Any]]  # what is known of the old and of the new side
LONG = 240  # characters of both values that are shown


@dataclass(frozen=True)
class Side:
    """A number and where it comes from.

    Attributes:
        value: as the table has it.
        runs: keys of the runs behind its row.
        root: the results folder it was written to, None where only the table is here.
        made: what the Markdown beside the table says.
    """

    value: float | None
    runs: tuple[str, ...]
    root: Path | None
    made: Mapping[str, str]


def cause(column: str, old: Side, new: Side) -> str:
    """The first field that changed behind a number: `seed 0 -> 1`."""
    if column.endswith(PAPER):
        return "the published value"
    scores = _score(column, old), _score(column, new)
    keys = _keys(old, new, scores)
    if keys is None:
        return "the runs of the row cannot be told apart"
    runs = [_run(key, sides) for key, sides in zip(keys, ((old, new), (new, old)), strict=True)]
    if keys[0] != keys[1]:
        for key, run in zip(keys, runs, strict=True):
            if not run:
                return f"another run, and run {key} is not here" if key else "no run"
        return _first([run.get("run", {}) for run in runs], RUN) or "the run"
    own = [content(_samples(side, key)) for side, key in ((old, keys[0]), (new, keys[1]))]
    return _of_score(scores, own) or _of_table(column, old, new)


def made_alike(column: str, old: Side, new: Side) -> bool:
    """Whether both numbers are of one run, on the same device with the same packages.

    What made samples and scores is looked up where they are here, and in the Markdown beside the
    tables where they are not; False where neither tells.
    """
    scores = _score(column, old), _score(column, new)
    keys = _keys(old, new, scores)
    if keys is None or not keys[0] or keys[0] != keys[1]:
        return False
    if not all(scores):
        told = old.made, new.made
        return all(each.get("device") for each in told) and not _first(told, TOLD)
    own = [content(_samples(side, keys[0])) for side in (old, new)]
    made, sampled = ([each.get("provenance", {}) for each in pair] for pair in (scores, own))
    same = scores[0].get("inputs") == scores[1].get("inputs")
    return not _first(made, MADE) and (same or (all(sampled) and not _first(sampled, MADE)))


def in_pairs(column: str, old: Side, new: Side) -> Difference | None:
    """The new scores minus the old ones, sample by sample; None if they are no pairs, or not here.

    They are pairs if there are as many and their samples begin with the same noise, of the same
    classes or prompts.
    """
    scores = _score(column, old), _score(column, new)
    if not all(scores) or not scores[0].get("scores"):
        return None
    before, after = (score.get("scores") or () for score in scores)
    keys = _keys(old, new, scores) or ("", "")
    runs = [_run(key, sides) for key, sides in zip(keys, ((old, new), (new, old)), strict=True)]
    made = [run.get("run", {}) for run in runs]
    if len(before) != len(after) or not all(made) or _first(made, ALIKE):
        return None
    return paired(after, before)


def _of_score(scores: Pair, own: Pair) -> str:
    """The first difference of two scores of one run; "" where they are not here.

    Args:
        own: what run.json says on either side of what made the samples.
    """
    if not all(scores):
        return ""
    if said := _first(scores, SCORE, names=SCORE):
        return said
    made, sampled = ([each.get("provenance", {}) for each in pair] for pair in (scores, own))
    if scores[0].get("inputs") == scores[1].get("inputs") or not all(sampled):
        return _first(made, (*MADE, *CODE)) or "nothing that is recorded"
    if said := _first(sampled, MADE):
        return f"samples: {said}"
    code = _first(sampled, CODE) or "others, of the same run and code"
    return _first(made, MADE) or f"samples: {code}"


def _of_table(column: str, old: Side, new: Side) -> str:
    """What is known where a score is not here."""
    said = _first((old.made, new.made), (*TOLD, "skipdit"))
    if said:
        return f"{said} (of the table)"
    if counted(column):
        return "the same run, counted in another way"
    return "the same run; its score is not here" if old.runs else "no run"


def _score(column: str, side: Side) -> Mapping[str, Any]:
    """The score on disk that is this number, {} where there is none (any more)."""
    candidates = []
    for key in side.runs if side.root and side.value is not None else ():
        for path in sorted((side.root / "scores" / key).glob("*.json")):  # type: ignore[operator]
            score = content(path)
            if _same(score.get("value"), side.value):
                candidates.append((path.stem.partition("@")[0] not in column, score))
    return min(candidates, key=lambda pair: pair[0])[1] if candidates else {}


def _same(value: object, shown: float | None) -> bool:
    """Whether a stored value is the one that a table shows, in whatever unit."""
    if not isinstance(value, int | float) or shown is None:
        return False
    return any(math.isclose(value * f, shown, rel_tol=1e-8) for f in (1, *FACTORS.values()))


def _keys(old: Side, new: Side, scores: Pair) -> tuple[str, str] | None:
    """The keys of the two runs; those of the scores, or the first that differ in the row."""
    if all(scores):
        return scores[0]["run"], scores[1]["run"]
    if len(old.runs) != len(new.runs):
        return None
    pairs = list(zip(old.runs, new.runs, strict=True)) or [("", "")]
    return next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])


def _run(key: str, sides: Iterable[Side]) -> Mapping[str, Any]:
    """What a run was; its key stands for all of it, so any folder that has it will do."""
    return next((run for side in sides if (run := content(_samples(side, key)))), {})


def _samples(side: Side, key: str) -> Path:
    return (side.root or Path("nowhere")) / "samples" / key / "run.json"


def _first(pair: Pair, keys: Iterable[str], *, names: Mapping[str, str] | None = None) -> str:
    """The first of the keys that differs, with both values: `seed 0 -> 1`; "" if none does."""
    for key in keys:
        one, other = (side.get(key) for side in pair)
        if one != other:
            name, values = (names or {}).get(key, key), f"{_text(one)} -> {_text(other)}"
            return f"{name} {values}" if len(values) <= LONG else name
    return ""


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
