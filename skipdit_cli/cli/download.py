"""skipdit download"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import app
from skipdit_cli.cli._output import say, show, table

if TYPE_CHECKING:
    from skipdit_cli.weights import Card
    from skipdit_cli.weights._fetch import Progress
    from skipdit_cli.weights.download import Plan


@app.command()
def download(
    names: Annotated[
        list[str] | None, typer.Argument(help="Models, or coco for COCO's captions.")
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
    """Fetch released checkpoints with their VAE and text encoders, and convert them.

    Without names, list what there is. A transfer that broke off goes on where it stopped; size and
    hash are checked. Loading a file runs no code from it, and every key must belong to the model.
    """
    from skipdit_cli.errors import UsageError
    from skipdit_cli.weights import coco
    from skipdit_cli.weights import download as downloads
    from skipdit_cli.weights.inventory import COCO, lacking

    cards, captions = _asked_for(names or [], recipe)
    if source is not None and (len(cards) + captions != 1 or dry_run):
        raise UsageError("--from is for one model", place="--from", fix="name the model alone")
    if not cards and not captions:
        show(table(("name", "state", "denoiser", "with its parts", "licence", "source"), _list()))
        return
    for card in cards:
        if not card.embedded:
            say(f"{card.name}: {card.source}, {_size(card)}, licence {card.licence}")
        if not dry_run and source is None:
            downloads.check_licence(card, accepted=accept_license)
    if captions:
        say(f"{COCO}: {coco.ADDRESS}, licence {coco.LICENCE}")
    if source is not None:
        for card in cards:
            show(f"{card.name} {downloads.convert(card, source)}")
            if more := [part.name for part in lacking(card)]:
                say(f"not here yet: {', '.join(more)}; skipdit download {card.name}")
        if captions:
            show(f"{COCO} {coco.download(archive=source)}")
        return

    listings: dict = {}
    plans = [downloads.plan(card, listings) for card in cards]
    for note in dict.fromkeys(note for each in plans for note in each.notes):
        say(f"{note}; taking what is in the cache of huggingface_hub")
    if dry_run:
        _show_plans(plans, captions=captions, delete_originals=delete_originals)
        return
    if any(each.items for each in plans):
        downloads.require_space(plans, delete_originals=delete_originals)
    with _bars() as progress:
        for each in plans:
            name = each.card.name
            path = downloads.execute(each, delete_original=delete_originals, progress=progress)
            show(f"{name} {path}")
            for kept in downloads.kept_originals(each.card) if each.items else ():
                say(f"kept {kept}; `skipdit download {name} --delete-originals` deletes it")
        if captions:
            path = coco.download(delete_original=delete_originals, progress=progress)
            show(f"{COCO} {path}")


def _asked_for(names: list[str], recipe: str | None) -> "tuple[list[Card], bool]":
    """The models that are named, and whether COCO's captions are."""
    from skipdit_cli import recipe as recipes
    from skipdit_cli import weights
    from skipdit_cli.errors import unknown
    from skipdit_cli.weights.inventory import COCO, recipe_needs

    wanted = list(names)
    if recipe:
        wanted += recipe_needs(recipes.load(recipe, scale="paper"))
    for name in wanted:
        if name != COCO and name not in weights.CARDS:
            raise unknown("model", name, (*weights.CARDS, COCO), place="skipdit download")
    cards = [weights.card(name) for name in dict.fromkeys(wanted) if name != COCO]
    return cards, COCO in wanted


def _size(card: "Card") -> str:
    """The size of a checkpoint with its components, as it is known beforehand."""
    from skipdit_cli import weights

    return weights.size_text(card.size + sum(part.size for part in card.components.values()))


def _list() -> list[tuple[str, ...]]:
    from skipdit_cli import weights
    from skipdit_cli.weights import coco
    from skipdit_cli.weights.inventory import COCO, coco_list, parts

    rows = []
    for card in weights.CARDS.values():
        if card.embedded:
            continue
        states = {part.state for part in parts(card)}
        state = states.pop() if len(states) == 1 else "damaged" if "damaged" in states else "partly"
        size = weights.size_text(card.size)
        rows.append((card.name, state, size, _size(card), card.licence, card.source))
    state = "here" if coco_list().is_file() else "absent"
    size = weights.size_text(coco.SIZE)
    return [*rows, (COCO, state, "", size, coco.LICENCE, coco.ADDRESS)]


def _show_plans(plans: "list[Plan]", *, captions: bool, delete_originals: bool) -> None:
    """What would be fetched, and how much room that takes."""
    from skipdit_cli import weights
    from skipdit_cli.weights import coco
    from skipdit_cli.weights import download as downloads
    from skipdit_cli.weights.inventory import COCO, coco_list, parts

    jobs = []  # (model, part, file, licence, target)
    rows: list[tuple[str, ...]] = []
    for each in plans:
        name = each.card.name
        jobs += [(name, item.part, item.file, item.licence, item.target) for item in each.items]
        here = [part for part in parts(each.card) if part.state == "here"]
        rows += [(name, part.name, "", "", "", "", _short(part.folder), "here") for part in here]
    if captions and coco_list().is_file():
        rows.append((COCO, "captions", "", "", "", "", _short(coco_list()), "here"))
    elif captions:
        jobs.append((COCO, "captions", coco.source(), coco.LICENCE, coco.target()))
    total = 0
    for name, part, file, licence, target in jobs:
        todo = downloads.left(file, target)
        total += todo
        size = "?" if file.size is None else weights.size_text(file.size)
        state = "fetch" if todo == file.size else "resume" if todo else "here"
        digest = file.digest[:12] if len(file.digest) == 64 else ""
        rows.append((name, part, file.label, size, digest, licence, _short(target), state))
    show(table(("model", "part", "file", "size", "sha256", "licence", "target", "state"), rows))
    needed = downloads.space_needed(plans, delete_originals=delete_originals)
    show(
        f"to fetch: {weights.size_text(total)}; room needed with the converted copies: "
        f"{weights.size_text(needed)}; all under {weights.home()}"
    )


def _short(path: Path) -> str:
    from skipdit_cli import weights

    return (
        str(path.relative_to(weights.home())) if path.is_relative_to(weights.home()) else "package"
    )


@contextmanager
def _bars() -> "Iterator[Progress]":
    """A bar in bytes for each thing that is done; elsewhere than on a terminal, a line."""
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        told = set()

        def tell(what: str, done: int, total: int) -> None:
            if what not in told:
                say(what)
            told.add(what)

        yield tell
        return
    tasks: dict[str, bars.TaskID] = {}
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console) as shown:

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total or None)
            shown.update(tasks[what], completed=done, total=total or None)

        yield update
