"""skipdit download"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import _downloads, app
from skipdit_cli.cli._output import say, show

if TYPE_CHECKING:
    from skipdit_cli.errors import UsageError
    from skipdit_cli.metrics import Asset
    from skipdit_cli.weights import Card


@app.command()
def download(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models, or coco for COCO's captions.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="What metrics need: NAME[,NAME...], each a metric or one file; or all."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="All that a recipe needs at paper scale.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="The official file, here already; nothing is fetched."),
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
    from skipdit_cli.errors import UsageError
    from skipdit_cli.weights import assets_download, coco
    from skipdit_cli.weights import download as downloads
    from skipdit_cli.weights.inventory import COCO

    if not names and metrics is None and recipe is None:
        if source is not None:
            raise UsageError("--from is for one model or file", place="--from", fix="name it")
        _downloads.show_list()
        return
    needed = [] if metrics is None else [name.strip() for name in metrics.split(",")]
    if datasets := _datasets(needed):
        _prepare(datasets, source, alone=not names and recipe is None and not dry_run)
        return
    wanted = _wanted(names or [], needed, recipe)
    if not wanted.count:
        say("nothing from outside is needed")
        return
    if source is not None and (wanted.count != 1 or dry_run):
        raise UsageError(
            "--from is for one model, or one file of metrics", place="--from", fix="name it alone"
        )
    _downloads.say_sources(wanted.cards, captions=wanted.captions, assets=wanted.assets)
    if source is not None:
        _take(wanted, source)
        return
    if not dry_run:
        _check_licences(wanted, accepted=accept_license)

    listings: dict = {}
    plans = [downloads.plan(card, listings) for card in wanted.cards]
    metric_plans = [assets_download.plan(each, listings) for each in wanted.assets]
    notes = [each.notes for each in plans] + [each.notes for each in metric_plans]
    for note in dict.fromkeys(note for several in notes for note in several):
        say(f"{note}; taking what is in the cache of huggingface_hub")
    if dry_run:
        _downloads.show_plans(
            plans, metric_plans, captions=wanted.captions, delete_originals=delete_originals
        )
        return
    if any(each.items for each in plans) or any(each.items for each in metric_plans):
        downloads.require_space(
            plans,
            delete_originals=delete_originals,
            beside=assets_download.space_needed(metric_plans),
        )
    with _downloads.bars() as progress:
        for each in plans:
            name = each.card.name
            path = downloads.execute(each, delete_original=delete_originals, progress=progress)
            show(f"{name} {path}")
            for kept in downloads.kept_originals(each.card) if each.items else ():
                say(f"kept {kept}; `skipdit download {name} --delete-originals` deletes it")
        if wanted.captions:
            path = coco.download(delete_original=delete_originals, progress=progress)
            show(f"{COCO} {path}")
        for planned in metric_plans:
            path = assets_download.execute(planned, progress=progress)
            show(f"{planned.asset.name} {path}")


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched: models, COCO's captions, and what metrics need."""

    cards: "list[Card]"
    captions: bool
    assets: "tuple[Asset, ...]"

    @property
    def count(self) -> int:
        return len(self.cards) + self.captions + len(self.assets)


def _wanted(names: list[str], needed: list[str], recipe: str | None) -> Wanted:
    """What was named, models and what metrics need, with what a recipe needs.

    Raises:
        UsageError: a name is not known, or belongs to --metrics.
    """
    from skipdit_cli import recipe as recipes
    from skipdit_cli import weights
    from skipdit_cli.weights import assets
    from skipdit_cli.weights.inventory import COCO, recipe_needs

    wanted = list(names)
    for name in wanted:
        if name != COCO and name not in weights.CARDS:
            raise _unknown(name)
    found = dict.fromkeys(assets.resolve(needed, place="--metrics"))
    if recipe:
        loaded = recipes.load(recipe, scale="paper")
        wanted += recipe_needs(loaded)
        found |= dict.fromkeys(assets.for_recipe(loaded))
    cards = [weights.card(name) for name in dict.fromkeys(wanted) if name != COCO]
    return Wanted(cards, COCO in wanted, tuple(found))


def _unknown(name: str) -> "UsageError":
    """The error for a name that is no model's."""
    from skipdit_cli import weights
    from skipdit_cli.errors import UsageError, unknown
    from skipdit_cli.weights import assets
    from skipdit_cli.weights.inventory import COCO

    if name in assets.known():
        return UsageError(
            f"'{name}' is no model", place="skipdit download", fix=f"write --metrics {name}"
        )
    return unknown("model", name, (*weights.CARDS, COCO), place="skipdit download")


def _check_licences(wanted: Wanted, *, accepted: bool) -> None:
    """Raise a UsageError if something is to be fetched whose licence has to be accepted first."""
    from skipdit_cli.weights import assets, inventory, licences

    for card in wanted.cards:
        if inventory.lacking(card):
            licences.check(card.name, card.licence, accepted=accepted)
    for asset in wanted.assets:
        if assets.lacking(asset):
            licences.check(asset.name, asset.licence, accepted=accepted)


def _datasets(needed: list[str]) -> list[str]:
    """Those of what metrics need that are made of a user's own copy of the data.

    Raises:
        UsageError: others are among them.
    """
    from skipdit_cli.errors import UsageError
    from skipdit_cli.real_clips import DATASETS

    found = [name for name in needed if name in DATASETS]
    if found and len(found) < len(needed):
        others = ",".join(name for name in needed if name not in DATASETS)
        problem, fix = f"{','.join(found)} is made, {others} is fetched", "ask for them apart"
        raise UsageError(problem, place="--metrics", fix=fix)
    return found


def _prepare(datasets: list[str], source: Path | None, *, alone: bool) -> None:
    """Make the reference of one dataset's real clips of a user's own copy."""
    from skipdit_cli import real_clips
    from skipdit_cli.cli._options import device_name
    from skipdit_cli.errors import UsageError

    if source is None or len(datasets) != 1 or not alone:
        what = "; ".join(f"{name}: {real_clips.DATASETS[name].what}" for name in datasets)
        raise UsageError(
            f"real clips are made of your own copy of the data ({what})",
            place="--metrics",
            fix=f"run `skipdit download --metrics {datasets[0]} --from FOLDER`",
        )
    device = device_name("auto")
    with _downloads.bars() as progress:
        made = real_clips.prepare(datasets[0], source, device=device, workers=4, progress=progress)
    for protocol, path in made.items():
        show(f"{datasets[0]}/{protocol} {path}")


def _take(wanted: Wanted, source: Path) -> None:
    """Convert or bring in the one thing that is here already."""
    from skipdit_cli.weights import assets_download, coco
    from skipdit_cli.weights import download as downloads
    from skipdit_cli.weights.inventory import COCO, lacking

    for card in wanted.cards:
        show(f"{card.name} {downloads.convert(card, source)}")
        if more := [part.name for part in lacking(card)]:
            say(f"not here yet: {', '.join(more)}; skipdit download {card.name}")
    if wanted.captions:
        show(f"{COCO} {coco.download(archive=source)}")
    for asset in wanted.assets:
        show(f"{asset.name} {assets_download.take(asset, source)}")
