"""Studies: the tables that people make of a model, by name, from what is on disk.

A study is a folder ROOT/sweeps/NAME with its tables and pictures and `study.json`, which says whose
numbers they are: the runs, the metrics, and the series of timings. So a table is made again from
disk without any of its work, also where that was cut off; and no study takes another one's place.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from skipdit_cli import registry
from skipdit_cli.checkpoints.card import RANDOM, file_name
from skipdit_cli.errors import SkipditError, UsageError, unknown
from skipdit_cli.plan import plan
from skipdit_cli.recipe import recipe
from skipdit_cli.recipe.runs import from_dict
from skipdit_cli.run import Run
from skipdit_cli.score.labels import labels
from skipdit_cli.score.sweep import SweepRow, timed_as, with_references
from skipdit_cli.storage import failures, kept, results
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.storage.results import COMPILING, TIMED, Result

STUDY = kept.Kind("study", 1)
FILE = "study.json"
NAMES = r"[A-Za-z0-9][\w.+-]{0,99}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a table is of.

    Attributes:
        name: of its folder.
        runs: those that were asked for; their uncached references are in the table as well.
        metrics: what all of them are scored by.
        settings: what was chosen for the generation, as `make_run` takes it.
        weights: a checkpoint file instead of the known place, or "".
        batch_size: of what is timed, where somebody chose it.
        series: of timings: key of a timed reference -> the name of the series.
        changed: runs that were made by code that has changed since, in short; `runs` has them as
            they would be made now.
        lost: runs that cannot be made now, for their model, method or sampler is not known.
    """

    name: str
    runs: tuple[Run, ...]
    metrics: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    batch_size: int | None = None
    series: dict[str, str] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The model of its first run."""
        return self.runs[0].model

    @property
    def keys(self) -> frozenset[str]:
        """Of its runs."""
        return frozenset(run.key for run in self.runs)

    def folder(self, root: Path) -> Path:
        """Where its tables lie."""
        dry = self.runs and self.runs[0].card.random
        return _place(root, dry=bool(dry)) / self.name

    def with_runs(self, runs: Iterable[Run], *, num_samples: int | None = None) -> "Study":
        """The study with more runs; one that is there already may now have more samples.

        Args:
            num_samples: of all of them, where somebody chose it.
        """
        both = {run.key: run for run in (*self.runs, *runs)}
        if num_samples:
            both = {key: replace(run, num_samples=num_samples) for key, run in both.items()}
        return replace(self, runs=tuple(both.values()))

    def timed(self, rows: Sequence[SweepRow]) -> "Study":
        """The study, standing on the timings of some rows."""
        series = {
            result.reference: result.series
            for row in rows
            if (result := row.results.get("latency")) and result.reference and result.series
        }
        return replace(self, series={**self.series, **series})


def read(root: Path, name: str) -> Study | None:
    """A study by its name; None where there is none. A dry run's is called `random/NAME`.

    Raises:
        UsageError: none of its runs can be made now.
    """
    path = _path(root, name)
    with kept.damaged_is_absent():
        found = kept.read_json(path, _parse, STUDY, of=f"study {name}")
        if found and not found.runs:
            raise UsageError(
                f"no run of study {name} can be made now, as {found.lost[0]}",
                place=str(path),
                fix="its tables stand as they were written; make another study",
            )
        return found and replace(found, name=path.parent.name)
    return None


def write(root: Path, study: Study) -> Study:
    """Keep what a study is of, with runs that another process has put into it meanwhile.

    Returns:
        The study as it is kept.
    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    path = study.folder(root) / FILE
    name = _called(root, path)
    if there := read(root, name):
        study = study.with_runs(run for run in there.runs if run.key not in study.keys)
        study = replace(study, series={**there.series, **study.series})
    content = {
        "runs": [
            {"key": run.key, "run": run.to_dict(), "reference_steps": run.reference_steps}
            for run in study.runs
        ],
        "metrics": list(study.metrics),
        "settings": study.settings,
        "weights": study.weights,
        "batch_size": study.batch_size,
        "series": study.series,
    }
    write_whole(path, kept.sealed_json(content, STUDY, of=f"study {name}"))
    return study


def names(root: Path) -> list[str]:
    """The studies under a results folder."""
    paths = [*_place(root).glob(f"*/{FILE}"), *_place(root, dry=True).glob(f"*/{FILE}")]
    return sorted(_called(root, path) for path in paths)


def named(root: Path, name: str, *, place: str, others: Iterable[str] = ()) -> Study:
    """The study of a name.

    Args:
        others: recipes, which might have been named too.
    Raises:
        UsageError: there is none; the nearest name is told.
    """
    if study := read(root, name):
        return study
    if (folder := _path(root, name).parent).is_dir():
        raise UsageError(
            f"{folder} has no study.json that can be read",
            place=place,
            fix="its runs are there all the same (`skipdit ls runs`), and `skipdit report --runs "
            "KEY,KEY --name NEW` makes another study of them",
        )
    kind = "recipe or study" if others else "study"
    raise unknown(kind, name, [*others, *names(root)], place=place)


def checked(name: str) -> str:
    """A name for a study.

    Raises:
        UsageError: it is that of a recipe, or none that a folder can have everywhere.
    """
    if recipe.is_name(name):
        raise UsageError(f"'{name}' is a recipe", place="--name", fix="take another name")
    if not re.fullmatch(NAMES, name):
        fix = "take letters, digits and . _ + -"
        raise UsageError(f"'{name:.60}' cannot be the name of a study", place="--name", fix=fix)
    return name


def begun(root: Path, runs: Sequence[Run], *, name: str = "") -> Study:
    """The study that runs are to be in: one that is there and loses nothing by it, or a new one.

    Without a name it is that of the model, with a number where others have it already.

    Args:
        name: of the study; one that is there is to get the runs besides its own.
    Raises:
        UsageError: what is there of that name is no study.
    """
    dry = runs[0].card.random
    if name:
        folder = _place(root, dry=dry) / name
        if (earlier := read(root, _called(root, folder / FILE))) or not folder.exists():
            return earlier or Study(name=name, runs=tuple(runs))
        fix = "take another name, or remove it"
        raise UsageError(f"{folder} is there and is no study", place="--name", fix=fix)
    number, samples = 1, {run.key: run.num_samples for run in runs}
    while (folder := _place(root, dry=dry) / _numbered(file_name(runs[0].model), number)).exists():
        earlier = None
        with suppress(UsageError):  # it stands as it was written
            earlier = read(root, _called(root, folder / FILE))
        if earlier and all(samples.get(run.key, 0) >= run.num_samples for run in earlier.runs):
            break
        number += 1
    return Study(name=folder.name, runs=tuple(runs))


def rows(study: Study, root: Path, *, made: Sequence[SweepRow] = ()) -> list[SweepRow]:
    """The lines of a study's table, references first, with all that is on disk of them.

    Args:
        made: those that a sweep has just made, whose results come before what is on disk.
    """
    ordered = with_references(study.runs)
    called, new = labels(ordered), {row.run.key: row for row in made}
    found = []
    for run in ordered:
        row = new.get(run.key) or SweepRow(
            label="",
            run=run,
            plan_row=plan.plan(run, seen=plan.observed(run, root)),
            failure=failures.why(root, run, failures.SAMPLES),
        )
        timings, batch = _timings(run, study, root)
        known = _scores(run, root) | timings | row.results
        found.append(replace(row, label=called[run.key], results=known, timed_batch=batch))
    return found


def scored(runs: Iterable[Run], root: Path) -> tuple[str, ...]:
    """The metrics by which any of some runs, or of their references, was scored."""
    both = {each.key: each for run in runs for each in (run.reference, run)}
    return tuple(dict.fromkeys(metric for run in both.values() for metric in _scores(run, root)))


def _scores(run: Run, root: Path) -> dict[str, Result]:
    """What a run was scored by, by the metrics as they are now; failures among them."""
    scores = {}
    failed = {path.stem for path in (root / "failures" / run.key).glob("*.json")}
    names = failed | results.metrics_of(root, run.key)
    for metric in sorted(filter(lambda name: registry.known("metrics", name), names)):
        found = results.read_score(root, run, metric)
        if found and found.version == registry.load("metrics", metric).VERSION:
            scores[metric] = found
        elif reason := failures.read_failure(root, run.key, metric):
            scores[metric] = _failed(run, metric, reason)
    return scores


def _timings(run: Run, study: Study, root: Path) -> tuple[dict[str, Result], int]:
    """The timings of a run and the batch that they are of: of the study's series, or the newest."""
    likely = [timed_as(run, size) for size in (study.batch_size, None, run.batch_size)]
    for timed in likely:
        found: dict[str, Result] = {}
        for metric in TIMED | COMPILING:
            if each := results.timings_of(root, timed, metric):
                chosen = study.series.get(timed.reference.key, "")
                found[metric] = each.get(chosen) or next(iter(each.values()))
        if found:
            return found, timed.batch_size
    reason = failures.read_failure(root, likely[0].key, failures.TIMING)
    lacking = {metric: _failed(run, metric, reason) for metric in TIMED} if reason else {}
    return lacking, likely[0].batch_size


def _failed(run: Run, metric: str, reason: str) -> Result:
    return Result(
        metric=metric, value=None, unit="", n=0, run=run.key, status="failed", note=reason
    )


def _parse(content: Mapping[str, Any]) -> Study:
    found, changed, lost = [], [], []
    for each in content["runs"]:
        made = each["run"]
        about = f"{made['model']} {made['cache']} [{each['key'][:8]}]"
        try:
            run = from_dict(made)
        except (SkipditError, ValueError) as error:
            lost.append(f"{about} ({error})")
        else:
            found.append(replace(run, reference_steps=each.get("reference_steps")))
            changed += [about] if run.key != each["key"] else []
    return Study(
        name="",
        runs=tuple(found),
        metrics=tuple(content["metrics"]),
        settings={
            key: tuple(value) if isinstance(value, list) else value
            for key, value in content["settings"].items()
        },
        weights=content["weights"],
        batch_size=content["batch_size"],
        series=content["series"],
        changed=tuple(changed),
        lost=tuple(lost),
    )


def _place(root: Path, *, dry: bool = False) -> Path:
    return root / RANDOM / "sweeps" if dry else root / "sweeps"


def _path(root: Path, name: str) -> Path:
    dry, _, rest = name.rpartition("/")
    return _place(root, dry=dry == RANDOM) / rest / FILE


def _called(root: Path, path: Path) -> str:
    name = path.parent.name
    return f"{RANDOM}/{name}" if path.parent.parent == _place(root, dry=True) else name


def _numbered(model: str, number: int) -> str:
    return model if number == 1 else f"{model}-{number}"
