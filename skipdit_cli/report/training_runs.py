"""Training runs as they stand in their folders: scores, losses, and what they were asked for."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog
from skipdit_cli.checkpoints.folder import CARD
from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.storage import training as storage
from skipdit_cli.storage.disk import read_json

NATIVE_SKIP = "hunyuan_dit"  # the family whose networks have long skips by design

Scores = tuple[tuple[int, float], ...]  # (step, score), in the order of steps


@dataclass(frozen=True)
class TrainingRun:
    """One run.

    Attributes:
        name: its folder, as it was given.
        scores: of the one metric that is looked at; of runs without, losses.
        losses: as logged.
        model: what is trained; "" where that is not told.
        asked: all that it was asked for but the seed, as text; "" where that is not told.
        seed: None where it is not told.
        skip: whether the model has skip branches.
        samples: how many were scored, every number that occurs.
    """

    name: str
    scores: Scores
    losses: Scores = ()
    model: str = ""
    asked: str = ""
    seed: int | None = None
    skip: bool = False
    samples: frozenset[int] = frozenset()

    @property
    def steps(self) -> int:
        """The last step that is logged or scored."""
        return max(step for step, _ in (*self.scores, *self.losses))


def read(folders: Sequence[Path], metric: str | None) -> tuple[list[TrainingRun], str | None]:
    """Runs, and the metric that they are compared by; None where none of them has scores.

    Args:
        metric: as of `training.compare`.
    Raises:
        UsageError, StoreError: as of `training.compare`.
    """
    found = {folder: _scores_of(folder) for folder in dict.fromkeys(folders)}
    scored = {folder: scores for folder, scores in found.items() if scores}
    chosen = _metric(scored, metric) if scored else metric
    for folder, scores in found.items():
        if chosen and not any(each.metric == chosen for each in scores):
            there = ", ".join(sorted({each.metric for each in scores}))
            what = f"no score by {chosen}, but by {there}"
            what = what if there else "it was not scored while it was trained"
            raise UsageError(what, place=str(folder), fix=to_score(chosen))
    runs = [_run(folder, scores, chosen) for folder, scores in found.items()]
    if absent := next((run.name for run in runs if not run.scores), None):
        raise UsageError("it has neither scores nor losses", place=absent, fix=to_score())
    return runs, chosen


def _scores_of(folder: Path) -> list[storage.Scored]:
    """The scores with a value that a run has; UsageError if it is none."""
    if not folder.is_dir():
        what = "is a file, not the folder of a run" if folder.exists() else "no such folder"
        fix = "name the folder of a training, as results/train/NAME"
        raise UsageError(what, place=str(folder), fix=fix)
    scores = storage.scored(folder)
    if not scores and not storage.logged(folder) and not (folder / storage.RECORD).exists():
        fix = "name the folder of a training, as results/train/NAME"
        raise UsageError("is not the folder of a training", place=str(folder), fix=fix)
    return [each for each in scores if each.value is not None]


def to_score(metric: str = "fid@digits") -> str:
    """What gives runs scores by a metric."""
    return f"give --eval {metric} --eval-every 200 to skipdit train"


def _metric(found: Mapping[Path, Sequence[storage.Scored]], asked: str | None) -> str:
    """The metric that is looked at; UsageError if it is not clear, or not known here."""
    there = [{each.metric for each in scores} for scores in found.values()]
    shared, every = set.intersection(*there), sorted(set.union(*there))
    if asked is None:
        if len(shared) != 1:
            how = "by several metrics" if shared else "by no metric that all have"
            fix = f"give --metric, one of {', '.join(sorted(shared) or every)}"
            raise UsageError(f"the runs were scored {how}", place="--metric", fix=fix)
        [asked] = shared
    elif asked not in every:
        raise unknown("score", asked, every, place="--metric")
    if not registry.known("metrics", asked):
        fix = "install the package that has it"
        raise UsageError(f"{asked} is no metric here", place="--metric", fix=fix)
    return asked


def _run(folder: Path, scores: Iterable[storage.Scored], metric: str | None) -> TrainingRun:
    """A run as it stands in its folder; without a metric, its losses in place of scores."""
    asked = dict(storage.settings(folder))
    model, seed = str(asked.get("model", "")), asked.pop("seed", None)
    of_metric = [each for each in scores if each.metric == metric]
    logged = ((each.step, each.loss) for each in storage.logged(folder))
    losses = tuple((step, loss) for step, loss in logged if loss is not None)
    valued = tuple((each.step, each.value) for each in of_metric if each.value is not None)
    return TrainingRun(
        name=str(folder),
        scores=valued if metric else losses,
        losses=losses if metric else (),
        model=model,
        asked=json.dumps(asked, sort_keys=True) if asked else "",
        seed=seed if isinstance(seed, int) else None,
        skip=_has_skip(folder, model),
        samples=frozenset(each.samples for each in of_metric if each.samples is not None),
    )


def _has_skip(folder: Path, model: str) -> bool:
    """Whether a model has skip branches, by the card in its folder or that of its name."""
    fix = "move it away, and the model is known by its name alone"
    said = read_json(folder / CARD, dict, what="card of a model", fix=fix)
    if said is None:
        card = catalog.cards().get(model)
        return card is not None and (card.skip or card.native_skip)
    return said.get("skip") is True or said.get("family") == NATIVE_SKIP
