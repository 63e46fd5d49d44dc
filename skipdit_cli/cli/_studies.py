"""Studies on the command line: that of a sweep's `--name`, and what `report` tabulates."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.cli._output import say, show_table

if TYPE_CHECKING:
    from skipdit_cli.report.figures import Wanted
    from skipdit_cli.run import Run
    from skipdit_cli.score.study import Study
    from skipdit_cli.storage.shelf import Shelved


def earlier(root: Path, name: str | None, *, weights: str | None) -> "Study | None":
    """The study that --name names, if it is there.

    Raises:
        UsageError: no study can have that name.
    """
    from skipdit_cli.checkpoints.card import RANDOM
    from skipdit_cli.score import study

    if name is None:
        return None
    dry = name.startswith(f"{RANDOM}/") or weights == RANDOM
    plain = study.checked(name.removeprefix(f"{RANDOM}/"))
    return study.read(root, f"{RANDOM}/{plain}" if dry else plain)


def asked(
    new: "Sequence[Run]",
    earlier: "Study | None",
    *,
    root: Path,
    name: str | None,
    metrics: Sequence[str] | None,
    settings: dict[str, Any],
    weights: Path | None,
) -> "Study":
    """The study that runs are to be in, which is told where one of that model is there already.

    Args:
        new: the runs that the command line asks for; none where it goes on with the earlier ones.
        metrics: by which they are scored; None for those of the earlier study, or the usual ones.
        settings: of the generation, those of the earlier study included.
    """
    from skipdit_cli.checkpoints.card import file_name
    from skipdit_cli.errors import UsageError
    from skipdit_cli.score import jobs, study

    if earlier:
        most = max(run.num_samples for run in earlier.runs)
        if (count := settings.get("num_samples")) and count < most:
            raise UsageError(
                f"study {earlier.name} has {most} samples of each run",
                place=f"--num-samples {count}",
                fix="give as many or more, or another --name",
            )
        both = earlier.with_runs(new, num_samples=settings.get("num_samples"))
        more = len(both.runs) - len(earlier.runs)
        say(f"study {earlier.name}: {len(earlier.runs)} runs are in it, {more or 'no'} more now")
        return replace(
            both,
            metrics=tuple(dict.fromkeys([*earlier.metrics, *(metrics or ())])),
            settings=settings,
            batch_size=settings.get("batch_size"),
        )
    begun = study.begun(root, new, name=name or "")
    kept = file_name(new[0].model)
    if begun.name not in (name, kept):
        say(f"study {begun.name}: {kept} is another one and stays; --name {kept} adds to it")
    return replace(
        begun,
        runs=tuple(new),
        metrics=tuple(jobs.usual_metrics(new[0].card) if metrics is None else metrics),
        settings=settings,
        weights=str(weights or ""),
        batch_size=settings.get("batch_size"),
    )


def meant(
    targets: Sequence[str], runs: "Sequence[Shelved]", *, root: Path, study: str | None
) -> "list[Shelved]":
    """The runs on disk that keys or specs name, each once.

    Args:
        runs: among which they are looked for.
        study: to which these are narrowed down; all of its runs are meant where none is named.
    Raises:
        UsageError: there is no such study, or not one run of a name.
    """
    from skipdit_cli.score import study as known
    from skipdit_cli.storage import shelf

    if study is not None:
        own = known.named(root, study, place="--study").runs
        keys = dict.fromkeys(key for run in own for key in (run.reference.key, run.key))
        there = {run.key: run for run in runs}
        runs = [there[key] for key in keys if key in there]
        if not targets:
            return runs
    found = [shelf.one(target, runs, place=str(root)) for target in targets]
    return list({run.key: run for run in found}.values())


def called_after(root: Path, target: str) -> str:
    """The study that the name of a folder means: of that name, or called after the model in it.

    Anything else means itself.
    """
    from skipdit_cli.checkpoints import folder
    from skipdit_cli.checkpoints.card import file_name
    from skipdit_cli.score import study

    if not Path(target).is_dir():
        return target
    known = (target, file_name(folder.called(Path(target))))
    return next((name for name in known if name in study.names(root)), target)


def is_there(target: str) -> bool:
    """Whether a target is the path of a recipe, and not the name of a study."""
    return Path(target).exists() and not Path(target).is_dir()


def reported(
    target: str | None, keys: str | None, more: str | None, *, name: str | None, root: Path
) -> "Study":
    """The study that is named, or one of runs that are; it is kept if it has a name and is new."""
    from skipdit_cli.errors import UsageError
    from skipdit_cli.recipe.again import differing
    from skipdit_cli.recipe.recipe import names
    from skipdit_cli.recipe.runs import find_run
    from skipdit_cli.score import study as known

    if bool(target) == bool(keys):
        fix = "name a study, or give --runs"
        raise UsageError("one of the two is wanted", place="skipdit report", fix=fix)
    if target and name:
        fix = f"leave it out, or {target}"
        raise UsageError("the study is named twice", place="--name", fix=fix)
    wanted = [find_run(root, key.strip()) for key in (keys or more or "").split(",") if key]
    if target:
        study = known.named(root, target, others=names(), place="skipdit report")
        if more:
            study = study.with_runs(wanted)
            known.write(root, study)
        return study
    if more:
        raise UsageError("it is for a study", place="--add", fix="give all of them as --runs")
    cached = tuple(run for run in wanted if not run.is_reference)
    study = known.Study(name="", runs=cached or tuple(wanted))
    if name:
        plain = known.checked(name)
        if known.read(root, plain):
            fix = f"take another name, or `skipdit report {plain} --add KEY`"
            raise UsageError(f"there is a study {plain}", place="--name", fix=fix)
        first = wanted[0]
        given = {"prompts": first.prompts} if first.prompts else {}
        study = replace(
            known.begun(root, wanted, name=plain),
            metrics=known.scored(wanted, root),
            settings=differing(first) | given,
        )
        known.write(root, study)
    return study


def tabulate(
    study: "Study", *, root: Path, formats: str | None, figures: "Wanted | None", json: bool
) -> None:
    """Print the table of a study, and write it where that has a name."""
    from skipdit_cli import report as reports
    from skipdit_cli.errors import StoreError, UsageError, warn
    from skipdit_cli.report.figures import draw
    from skipdit_cli.report.gallery import Behind
    from skipdit_cli.report.publish import publish
    from skipdit_cli.report.sweep import build_sweep_table
    from skipdit_cli.score import study as known

    place = f"study {study.name}"
    for lost in study.lost:
        warn(f"left out: {lost}", place=place, fix="the table is of the others")
    if study.changed:
        count = f"{len(study.changed)} of {len(study.runs)} runs"
        fix = f"`skipdit cache-sweep --name {study.name}` makes them anew"
        warn(f"{count} were made by code that has changed since", place=place, fix=fix)
    rows = known.rows(study, root)
    built = build_sweep_table(rows, metrics=study.metrics)
    behind, paths = Behind(root, [row.run for row in rows]), []
    folder = study.folder(root)
    if (formats or figures) and not study.name:
        place = "--format" if formats else "--figure"
        raise UsageError("a file needs a name", place=place, fix="give --name as well")
    unwritten = None
    try:
        if study.name:
            reports.keep_numbers(built, folder, name="sweep")
        if formats:
            paths = reports.write_table(
                built, folder, name="sweep", formats=formats.split(","), behind=behind
            )
            paths += draw(built, behind, folder, name="sweep", figures=figures) if figures else []
        elif study.name:
            paths = publish(built, folder, name="sweep", rows=rows, root=root, figures=figures)
    except StoreError as error:  # the table is printed all the same
        unwritten = error
    show_table(built, behind, paths, json=json)
    if unwritten:
        raise unwritten
    for path in paths:
        say(f"wrote {path}")
