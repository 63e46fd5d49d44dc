"""Status: what of a recipe, a study or a results folder is done, in progress, failed and left.

Nothing is written and nothing is waited for: it may be asked while others work, and on a machine
that sees no more than the folder. A sample counts that is in the journal of its run; its file is
not read again, which `report` and `evaluate` do.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skipdit_cli import registry
from skipdit_cli.errors import IncompleteError, SkipditError, UsageError, warn
from skipdit_cli.recipe import runs as known
from skipdit_cli.recipe.shape import Recipe
from skipdit_cli.run import FREE, Run
from skipdit_cli.score import study as studies
from skipdit_cli.score.labels import labels
from skipdit_cli.score.study import Study
from skipdit_cli.storage import failures, lock, results, shelf
from skipdit_cli.storage.disk import on_disk
from skipdit_cli.storage.lock import Holder
from skipdit_cli.storage.results import COMPILING, TIMED
from skipdit_cli.storage.shelf import Shelved
from skipdit_cli.storage.store import Store, open_store

DONE, RUNNING, HELD, FAILED, WAITING = "done", "running", "held", "failed", "waiting"
STATES = (DONE, RUNNING, HELD, FAILED, WAITING)
_ABSENT = "absent"  # the weights of a run, where they are not here
_OWN = (*FREE, "cache", "batch_size", "versions")  # in which runs of one recipe may differ

Job = tuple[Run, tuple[str, ...]]  # a run and its metrics


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How far a run is.

    Attributes:
        key, model: of the run.
        label: what it is called among others of its model.
        window: of its cache, "" where that is not known.
        finished: samples that are there, of those that are wanted.
        wanted: how many; None where its description is damaged.
        scored: the metrics that were asked for and are there.
        lacking: those that are not.
        failed: why there are no samples, or no score: by "samples" or metric.
        holder: the process that works on it.
        seen: whether this machine sees it at work; one on another machine may have been killed.
        touched: when something was last written, in seconds since 1970; None where nothing was.
        written: when each of its samples was, those of the holder alone, in order.
        batch_size: samples that are written together.
    """

    key: str
    model: str
    label: str
    window: str = ""
    finished: int
    wanted: int | None
    scored: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    holder: Holder | None = None
    seen: bool = False
    touched: float | None = None
    written: tuple[float, ...] = ()
    batch_size: int = 1

    @property
    def state(self) -> str:
        """One of STATES; "held" is by a process on another machine that may be gone."""
        if self.holder:
            return RUNNING if self.seen else HELD
        if self.failed:
            return FAILED
        whole = self.wanted is not None and self.finished >= self.wanted
        return DONE if whole and not self.lacking else WAITING


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far all of it is.

    Attributes:
        runs: with their uncached references, those first.
        jobs: what hours are counted of.
        timed: runs whose loops are timed, one batch each.
        to_time: those that have not been.
        timing_failed: why not, by key.
        unknown: keys of unfinished runs of which no hours are counted: this code would make others.
    """

    runs: tuple[RunStatus, ...]
    jobs: tuple[Job, ...] = ()
    timed: tuple[Run, ...] = ()
    to_time: tuple[Run, ...] = ()
    timing_failed: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def of(self, state: str) -> list[RunStatus]:
        """The runs that are in a state."""
        return [run for run in self.runs if run.state == state]

    @property
    def counts(self) -> dict[str, int]:
        """Runs by state, those that there are."""
        return {state: count for state in STATES if (count := len(self.of(state)))}

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return bool(self.runs) and len(self.of(DONE)) == len(self.runs) and not self.to_time

    @property
    def failed(self) -> bool:
        """Whether something failed and nobody is at it again."""
        return bool(self.of(FAILED) or self.timing_failed)

    @property
    def content(self) -> dict[str, Any]:
        """What it says of all runs together, for programs."""
        return {
            "done": self.done,
            "counts": self.counts,
            "timed": len(self.timed) - len(self.to_time),
            "to_time": len(self.to_time),
            "timing_failed": dict(self.timing_failed),
            "hours_unknown_of": list(self.unknown),
        }


def require(status: Status, *, place: str) -> None:
    """Raise unless all is done.

    Raises:
        SkipditError: something failed and nobody is at it again; the first is named.
        IncompleteError: something is left.
    """
    if status.done:
        return
    if status.failed:
        reasons = [
            f"{run.label} ({why})" for run in status.of(FAILED) for why in run.failed.values()
        ]
        reasons += [f"timing ({why})" for why in status.timing_failed.values()]
        raise SkipditError(
            f"{len(reasons)} failed, first {reasons[0]}",
            place=place,
            fix="the command that made the others tries again and keeps what is there",
        )
    if not status.runs:
        raise IncompleteError("no run is there yet", place=place)
    unfinished = [run for run in status.runs if run.state != DONE]
    samples = sum(max(0, (run.wanted or 0) - run.finished) for run in unfinished)
    lacking = sum(len(run.lacking) for run in unfinished)
    what = {"samples": samples, "scores": lacking, "timed loops": len(status.to_time)}
    told = ", ".join(f"{count} {name}" for name, count in what.items() if count)
    raise IncompleteError(
        f"{len(unfinished)} of {len(status.runs)} runs are not done ({told or 'damaged'} left)",
        place=place,
    )


def of_recipe(recipe: Recipe, root: Path) -> Status:
    """What of a recipe is there.

    Weights and lists of prompts that are not on this machine are those of the newest runs in the
    folder that are otherwise as the recipe says.
    """
    there = shelf.shelf(root) if root.is_dir() else []
    jobs = [(_as_there(run, there), tuple(metrics)) for run, metrics in known.scored(recipe)]
    timed = [_as_there(run, there) for run in known.timed(recipe)]
    asked = _with_references(jobs)
    to_time = [run for run in timed if not results.is_timed(root, run)]
    reasons = {run.key: failures.read_failure(root, run.key, failures.TIMING) for run in to_time}
    return Status(
        runs=_of_runs(asked, root),
        jobs=asked,
        timed=tuple(timed),
        to_time=tuple(to_time),
        timing_failed={key: reason for key, reason in reasons.items() if reason},
    )


def of_study(study: Study, root: Path) -> Status:
    """What of a study is there; it does not say whether its loops are to be timed."""
    asked = _with_references((run, study.metrics) for run in study.runs)
    return Status(runs=_of_runs(asked, root), jobs=asked)


def of_folder(root: Path) -> Status:
    """What all studies in a results folder ask for, and what other runs were begun in it."""
    meant: list[Job] = []
    for name in studies.names(root):
        try:
            study = studies.read(root, name)
        except UsageError as error:
            warn(error.problem, place=error.place, fix="it is left out")
            continue
        meant += [(run, study.metrics) for run in study.runs] if study else []
    asked = {run.key: (run, metrics) for run, metrics in _with_references(meant)}
    begun = [run for run in shelf.shelf(root) if run.key not in asked and _is_begun(run)]
    own = {run.key: _own(run) for run in begun}
    others = [(run, _scored_by(each)) for each in begun if (run := own[each.key])]
    jobs = (*asked.values(), *others)
    lost = tuple(_of_shelved(run) for run in begun if not own[run.key])
    return Status(
        runs=(*_of_runs(jobs, root), *lost),
        jobs=jobs,
        unknown=tuple(run.key for run in lost if run.state != DONE),
    )


def _with_references(jobs: Iterable[Job]) -> tuple[Job, ...]:
    """The runs once each, references first, with all the metrics that can score them."""
    jobs = [*jobs]
    asked: dict[str, Job] = {}
    both = [*((run.reference, metrics) for run, metrics in jobs if metrics), *jobs]
    for run, metrics in both:
        before, more = asked.get(run.key, (run, ()))
        # of one that is also to be compared with more steps, that is what may still be left
        run = max(before, run, key=lambda each: (each.num_samples, bool(each.reference_steps)))
        asked[run.key] = run, tuple(dict.fromkeys((*more, *_fitting(run, metrics))))
    return tuple(asked.values())


def _fitting(run: Run, metrics: Sequence[str]) -> list[str]:
    """The metrics without those that compare a reference with itself."""
    return [name for name in metrics if not (run.is_reference and _needs(name) == "pairs")]


def _needs(metric: str) -> str:
    return registry.load("metrics", metric).NEEDS if registry.known("metrics", metric) else ""


def _of_runs(jobs: Sequence[Job], root: Path) -> tuple[RunStatus, ...]:
    by_model: dict[str, list[Run]] = {}
    for run, _ in jobs:
        by_model.setdefault(run.model, []).append(run)
    called: dict[str, str] = {}
    for alike in by_model.values():
        called |= labels(alike)
    found = []
    for run, metrics in jobs:
        scored = [name for name in metrics if _is_scored(run, name, root)]
        lacking = tuple(name for name in metrics if name not in scored)
        found.append(
            RunStatus(
                key=run.key,
                model=run.label,
                label=called[run.key],
                window=run.cache.span,
                wanted=run.num_samples,
                scored=tuple(scored),
                lacking=lacking,
                batch_size=run.batch_size,
                **_on_disk(open_store(root, run), root, lacking, wanted=run.num_samples),
            )
        )
    return tuple(found)


def _of_shelved(run: Shelved) -> RunStatus:
    """A run that this code cannot make."""
    return RunStatus(
        key=run.key,
        model=run.model,
        label=run.cache,
        wanted=run.wanted,
        scored=_scored_by(run),
        batch_size=run.made.get("batch_size", 1),
        **_on_disk(run.store, run.root, (), wanted=run.wanted),
    )


def _on_disk(
    store: Store, root: Path, lacking: Sequence[str], *, wanted: int | None
) -> dict[str, Any]:
    """What the folder of a run says of samples, failures and who works on it."""
    there = [i for i in store.entered() if wanted is None or i < wanted]
    key = store.path.name
    reasons = {
        what: failures.read_failure(root, key, what) for what in (failures.SAMPLES, *lacking)
    }
    holder = lock.holder_of(store.path)
    seen = holder is not None and holder.here and lock.seen_held(store.path)
    if holder and holder.host and holder.here and not seen:
        holder = None  # it was killed
    times = []
    if holder and holder.since:
        since = holder.since.timestamp()
        times = sorted(moment for i in there if (moment := _time(store.file(i)) or 0) > since)
    signs = filter(None, map(_time, (store.path, store.path / "samples.jsonl")))
    return {
        "finished": len(there),
        "failed": {what: reason for what, reason in reasons.items() if reason},
        "holder": holder,
        "seen": seen,
        "touched": max(signs, default=None),
        "written": tuple(times),
    }


def _is_scored(run: Run, metric: str, root: Path) -> bool:
    """Whether a score of as many samples is there, by the metric as it is now."""
    found = results.read_score(root, run, metric)
    if not found or found.value is None or found.n != run.num_samples:
        return False
    now = registry.load("metrics", metric) if registry.known("metrics", metric) else None
    return now is None or found.version == now.VERSION


def _is_begun(run: Shelved) -> bool:
    """Whether it has samples or was to have some; others were only timed."""
    return run.store.path.is_dir() or failures.SAMPLES in run.failed


def _scored_by(run: Shelved) -> tuple[str, ...]:
    """The metrics that a run on disk was scored by; nobody says by which others it is to be."""
    return tuple(name for name in run.results if name not in TIMED | COMPILING)


def _own(run: Shelved) -> Run | None:
    """The run that the code that is installed now would make there, if it is the same."""
    with suppress(SkipditError, ValueError, KeyError, TypeError):
        found = known.from_dict(run.made)
        return found if found.key == run.key else None
    return None


def _as_there(run: Run, there: Sequence[Shelved]) -> Run:
    """A run with the weights and prompts of the folder, where they are not on this machine."""
    lacks = {"weights"} if run.weights == _ABSENT else set()
    lacks |= {"prompts"} if run.card.text and run.prompts is None else set()
    wanted = {name: value for name, value in run.to_dict().items() if name not in (*lacks, *_OWN)}
    for each in reversed(there) if lacks else ():
        made = each.made
        if wanted.items() <= {n: v for n, v in made.items() if n in wanted}.items():
            texts = made.get("prompts") if "prompts" in lacks else run.prompts
            weights = made["weights"] if "weights" in lacks else run.weights
            return replace(run, weights=weights, prompts=texts and tuple(texts))
    return run


def _time(path: Path) -> float | None:
    with on_disk(path):
        try:
            return path.stat().st_mtime
        except FileNotFoundError:
            return None
