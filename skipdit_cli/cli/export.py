"""skipdit export"""

from pathlib import Path
from typing import Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _studies as studies
from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, stage
from skipdit_cli.errors import several


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="Folder to write into; it is made.")],
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY...",
            help="Runs: a key, the beginning of one, or a cache spec that names one.",
            autocompletion=complete.runs,
        ),
    ] = None,
    study: options.InStudy = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="png (of a clip a strip of its frames), mkv (lossless clips), mp4, gif; else png "
            "of images and mp4 of clips.",
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            help="Names of the files: {index}, {name}, {class}, {prompt}, {run}, {model}, {cache}, "
            "{seed}."
        ),
    ] = "{index:04d}",
    blind: Annotated[
        bool,
        typer.Option(
            "--blind",
            help="For people who judge: runs are called A, B, C, ...; which is which stands in a "
            "file beside the folder.",
        ),
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="By which --blind draws the names; else another each time.")
    ] = None,
    model: options.Model = None,
    results: options.Root = "results",  # type: ignore[assignment]
) -> None:
    """Write samples as files with a manifest.csv: file, run, cache, class or prompt, scores.

    Several runs get a folder each. Nothing is overwritten: the same command goes on where it was
    stopped, and other files in the folder are an error.
    """
    from secrets import randbelow

    from skipdit_cli.checkpoints.card import DRY_RUN, RANDOM
    from skipdit_cli.errors import UsageError, unknown
    from skipdit_cli.report import export as exporting
    from skipdit_cli.storage import shelf

    if kind is not None and kind not in exporting.FORMATS:
        raise unknown("format", kind, exporting.FORMATS, place="--format")
    if seed is not None and not blind:
        raise UsageError("draws names for --blind", place=f"--seed {seed}", fix="leave it out")
    runs = [run for run in shelf.shelf(results) if options.is_of(model, run.model)]
    if not keys and study is None:
        fix = "name runs by key or spec, or all of a study with --study"
        raise UsageError("no run is named", place="skipdit export", fix=fix)
    chosen = studies.meant(keys or (), runs, root=results, study=study)
    given = exporting.Export(
        folder=out,
        kind=kind,
        name=name,
        blind=blind,
        seed=randbelow(2**31) if seed is None else seed,
    )
    samples = exporting.plan(chosen, given)
    with stage(f"exporting {several(len(samples), 'sample')}") as update:
        for done, _ in enumerate(exporting.write(samples, given), start=1):
            update(done, len(samples))
    for run in chosen:
        shown = sum(each.run is run for each in samples)
        if run.wanted and shown < run.wanted:
            say(f"run {run.short}: {shown} of {run.wanted} samples")
        if run.made.get("weights") == RANDOM:
            say(f"run {run.short}: {DRY_RUN}")
    show(f"{several(len(samples), 'sample')} of {several(len(chosen), 'run')} in {out}")
    if blind:
        show(f"which is which: {given.key.name}, beside it; drawn by --seed {given.seed}")
