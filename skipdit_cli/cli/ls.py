"""skipdit ls"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _pipelines as pipelines
from skipdit_cli.cli import app
from skipdit_cli.cli._estimate import size as bytes_text
from skipdit_cli.cli._output import say, show, show_json, table
from skipdit_cli.errors import several

if TYPE_CHECKING:
    from skipdit_cli.checkpoints.card import Card
    from skipdit_cli.storage.shelf import Shelved

TASKS = {
    "c2i": "class-to-image",
    "c2v": "class-to-video",
    "t2v": "text-to-video",
    "t2i": "text-to-image",
}

RUN = ("key", "model", "cache", "sampler", "guidance", "samples", "made (UTC)", "scored")


@app.command()
def ls(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="models, caches, samplers, metrics, recipes; or runs or studies, those on disk.",
            autocompletion=complete.kinds,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(help="A cache, to list its settings.", autocompletion=complete.caches),
    ] = None,
    size: Annotated[bool, typer.Option("--size", help="Of runs: what each takes on disk.")] = False,
    model: options.Model = None,
    pipeline: pipelines.Pipeline = None,
    call: pipelines.Call = None,
    results: options.Root = "results",  # type: ignore[assignment]
    json: options.Json = False,
) -> None:
    """List models, caches, samplers, metrics and recipes, one line each; or a cache's settings.

    `ls caches --pipeline X` tells which methods fit a pipeline of diffusers, or why not.

    `ls runs` lists what is in a results folder, the oldest run first: how many of its samples are
    there, when it was begun, what was scored and timed, and what failed. `ls studies` lists the
    tables that were made of them.
    """
    from skipdit_cli.errors import UsageError, unknown

    if pipeline is not None:
        if kind != "caches" or name is not None:
            raise UsageError("is for `skipdit ls caches`", place="--pipeline", fix="leave it out")
        rows = pipelines.fitting(pipeline, call)
        if json:
            show_json(dict(rows))
        else:
            show(table(("cache", pipeline), rows))
        return
    options.refuse({"call": call}, "is for a pipeline", place="skipdit ls")
    if kind == complete.RUNS and name is None:
        _runs(results, model, size=size, json=json)
        return
    if kind == complete.STUDIES and name is None:
        options.refuse({"size": size}, "is for `skipdit ls runs`", place="skipdit ls")
        _studies(results, model, json=json)
        return
    options.refuse({"size": size, "model": model}, "is for `skipdit ls runs`", place="skipdit ls")
    lists = (*complete.KINDS, complete.RUNS, complete.STUDIES)
    if kind is not None and kind not in lists:
        raise unknown("list", kind, lists)
    if name is not None:
        if kind != "caches":
            raise UsageError(
                f"of {kind} there is nothing more to list than all of them",
                place=f"skipdit ls {kind} {name}",
                fix=f"leave {name} out; see skipdit ls --help",
            )
        _settings(name, json=json)
        return
    listed = {each: _rows(each) for each in ([kind] if kind else complete.KINDS)}
    if json:
        show_json({k: [{"name": n, "summary": s} for n, s in rows] for k, rows in listed.items()})
        return
    show("\n\n".join(table((each, ""), rows) for each, rows in listed.items()))


def _settings(name: str, *, json: bool) -> None:
    """The settings of a cache, with their defaults and what they mean."""
    from dataclasses import asdict

    from skipdit_cli import registry
    from skipdit_cli.recipe.cache_settings import settings

    fields = settings(name, place="skipdit ls caches")
    summary = registry.summary("caches", name)
    if json:
        content = [asdict(each) for each in fields]
        show_json({"name": name, "summary": summary, "settings": content})
        return
    show(summary)
    if fields:
        rows = [(each.name, each.default, each.meaning) for each in fields]
        show("\n" + table((name, "default", ""), rows))


def _runs(root: Path, model: str | None, *, size: bool, json: bool) -> None:
    """What is in a results folder, run by run."""
    from skipdit_cli.storage import shelf

    found = [run for run in shelf.shelf(root) if options.is_of(model, run.model)]
    if json:
        show_json([run.content | ({"bytes": run.sizes} if size else {}) for run in found])
        return
    if not found:
        say(f"there are no runs{f' of {model}' if model else ''} in {root}")
        return
    more = ("samples (size)", *shelf.SIZES[1:], "all") if size else ()
    rows = [_run(run) for run in found]
    if size:
        rows = [
            (*row, *map(bytes_text, [*run.sizes.values(), sum(run.sizes.values())]))
            for row, run in zip(rows, found, strict=True)
        ]
    show(table((*RUN, *more), rows))
    if size:
        everything = sum(sum(run.sizes.values()) for run in found)
        show(f"\n{several(len(found), 'run')}, {bytes_text(everything)}")


def _studies(root: Path, model: str | None, *, json: bool) -> None:
    """The studies of a results folder, a line each."""
    from skipdit_cli.errors import UsageError, warn
    from skipdit_cli.score import study as studies

    found = []
    for name in studies.names(root):
        try:
            study = studies.read(root, name)
        except UsageError as error:
            warn(error.problem, place=error.place, fix=error.fix)
            continue
        if study and options.is_of(model, study.model):
            found.append((name, study))
    if json:
        show_json(
            [
                {
                    "name": name,
                    "model": study.model,
                    "runs": sorted(study.keys),
                    "metrics": list(study.metrics),
                    "folder": str(study.folder(root)),
                }
                for name, study in found
            ]
        )
        return
    if not found:
        say(f"there are no studies{f' of {model}' if model else ''} in {root}")
        return
    rows = [
        (name, study.model, str(len(study.runs)), ", ".join(study.metrics), str(study.folder(root)))
        for name, study in found
    ]
    show(table(("study", "model", "runs", "metrics", "folder"), rows))


def _run(run: "Shelved") -> tuple[str, ...]:
    """The line of a run."""
    made, failed = run.made, "failed: " * bool(run.failed) + ", ".join(run.failed)
    return (
        *(run.short, run.model, run.cache),
        f"{made['sampler']} {made['steps']}" if made else "",
        str(made["guidance"] or "none") if made else "",
        f"{len(run.there)} / {'?' if run.wanted is None else run.wanted}",
        f"{run.time:%Y-%m-%d %H:%M}",
        "; ".join(filter(None, (", ".join(run.scored), failed))),
    )


def _rows(kind: str) -> list[tuple[str, str]]:
    from skipdit_cli import registry
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.recipe import recipe

    if kind == "recipes":
        return [(name, recipe.summary(name)) for name in recipe.names()]
    if kind == "models":
        return [(card.name, _describe(card)) for card in catalog.cards().values()]
    return [(name, registry.summary(kind, name)) for name in registry.names(kind)]


def _describe(card: "Card") -> str:
    from skipdit_cli.checkpoints import local

    task = TASKS[card.task]
    labels = "" if card.num_classes or card.text else ", unconditional"
    skip = " with skip branches" if card.skip and not card.native_skip else ""
    if card.embedded:
        where = "embedded"
    elif local.locate(card):
        where = "here"
    else:
        where = f"download {local.denoiser_size(card)}"
    return f"{task}{labels}: {card.variant}{skip} ({where})"
