"""skipdit download"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli import _downloads, app
from skipdit_cli.cli import _options as options
from skipdit_cli.cli import _pipelines as pipelines
from skipdit_cli.cli._output import say, show

if TYPE_CHECKING:
    from skipdit_cli.assets.wanted import Plans
    from skipdit_cli.errors import UsageError


@app.command()
def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Models, prompt lists (coco, drawbench, geneval, parti), training-clips, or a "
            "recipe: all that it needs at paper scale.",
            autocompletion=complete.downloads,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="What metrics need: NAME[,NAME...], each a metric, one file or a data set of real "
            "clips; or all.",
            autocompletion=complete.metrics,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe, which may also be among the names.", autocompletion=complete.recipes
        ),
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(metavar="HUB_ID", help="A pipeline of diffusers, as OWNER/NAME on the hub."),
    ] = None,
    configs: Annotated[
        bool,
        typer.Option("--configs", help="Of a pipeline what a plan takes alone: no weights."),
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="The official file or the folder of real clips, here already: nothing is fetched.",
        ),
    ] = None,
    accept_license: Annotated[
        bool,
        typer.Option("--accept-license", help="Accept non-commercial and territorial licences."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask the sources, print what would be fetched.")
    ] = False,
    delete_originals: Annotated[
        bool,
        typer.Option(
            "--delete-originals/--keep-originals",
            help="Delete official files after their conversion, also those kept earlier.",
        ),
    ] = False,
) -> None:
    """Fetch released checkpoints with their VAE and text encoders, and convert them; and what
    metrics need.

    Without names, list what there is. A transfer that broke off goes on where it stopped; size and
    hash are checked. Loading a checkpoint runs no code from it, and every key must belong to the
    model.
    """
    from skipdit_cli.assets import assets, wanted
    from skipdit_cli.checkpoints.inventory import lacking
    from skipdit_cli.checkpoints.local import fetching
    from skipdit_cli.errors import UsageError
    from skipdit_cli.recipe import needs
    from skipdit_cli.recipe import recipe as recipes
    from skipdit_cli.score import real_clips

    if pipeline is not None:
        others: dict[str, object] = {"names": names, "metrics": metrics, "recipe": recipe}
        others |= {"from": source, "delete-originals": delete_originals}
        options.refuse(others, "is not for a pipeline", place="--pipeline")
        _carry_out(pipelines.plans(pipeline, configs=configs), dry_run=dry_run)
        return
    options.refuse({"configs": configs}, "is for --pipeline", place="--configs")
    if not names and metrics is None and recipe is None:
        if source is not None:
            raise UsageError("--from is for one model or file", place="--from", fix="name it")
        _downloads.show_list()
        return
    models = [name for name in names or () if not recipes.is_name(name)]
    named = [name for name in names or () if name not in models]
    tables = dict.fromkeys(options.recipe_named(name, recipe) for name in [*named, None])
    needed = [] if metrics is None else [name.strip() for name in metrics.split(",")]
    alone = not names and recipe is None and not dry_run
    real = real_clips.asked_for(needed, source, alone=alone)
    if real and source is not None:
        _prepare(real[0], source)
        return
    files = assets.resolve([name for name in needed if name not in real], place="--metrics")
    absent = [name for name in real if not real_clips.prepared(name)]
    files += tuple(each for each in real_clips.networks(absent) if assets.lacking(each))
    for table in filter(None, tables):
        loaded = recipes.load_recipe(table, scale=recipes.scales(table)[-1])
        models += needs.checkpoints(loaded)
        files += needs.assets(loaded)
    what = wanted.wanted(models, files, absent)
    _show_prepared({name: real_clips.prepared(name) for name in real if name not in absent})
    if not what.count and real:
        return
    if not what.count:
        say("nothing from outside is needed")
        return
    if source is not None and dry_run:
        raise UsageError(
            "with --from nothing would be fetched", place="--dry-run", fix="leave one of them out"
        )
    if source is not None:
        wanted.require_one(what)
    _downloads.say_sources(what)
    if source is not None:
        taken = wanted.take(what, source)
        show(f"{taken.name} {taken.path}")
        for card in what.cards:
            if more := [part.name for part in lacking(card)]:
                say(f"not here yet: {', '.join(more)}; {fetching(card)}")
        return
    if not dry_run:
        wanted.check_licences(what, accepted=accept_license)
    _carry_out(wanted.plan(what), dry_run=dry_run, delete_originals=delete_originals, absent=absent)


def _carry_out(
    plans: "Plans",
    *,
    dry_run: bool,
    delete_originals: bool = False,
    absent: Sequence[str] = (),
) -> None:
    """Fetch what was planned, or print it.

    Args:
        absent: data sets of real clips, which are prepared once they are here.
    """
    from skipdit_cli.assets import clips, wanted

    for note in plans.notes:
        say(f"{note}; taking what is in the cache of huggingface_hub")
    if dry_run:
        _downloads.show_plans(plans, delete_originals=delete_originals)
        return
    for done in wanted.fetch(plans, delete_originals=delete_originals, bars=_downloads.bars):
        if done.name in absent and done.path == clips.folder(clips.ON_HUB[done.name]):
            _prepare(done.name, done.path)
            if delete_originals:
                clips.delete(clips.ON_HUB[done.name])
            continue
        show(f"{done.name} {done.path}")
        for kept in done.kept:
            say(f"kept {kept}; `skipdit download {done.name} --delete-originals` deletes it")


def _prepare(dataset: str, folder: Path) -> None:
    """Make the reference of a dataset of its real clips."""
    from skipdit_cli.score import real_clips

    device = options.device_name("auto")
    with _downloads.bars() as progress:
        made = real_clips.prepare(dataset, folder, device=device, workers=4, progress=progress)
    _show_prepared({dataset: made})


def _show_prepared(references: "dict[str, dict[str, Path | UsageError]]") -> None:
    for dataset, made in references.items():
        for protocol, path in made.items():
            show(f"{dataset}/{protocol} {path}")
