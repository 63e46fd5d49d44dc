"""What `skipdit download` prints: what there is, what would be fetched, how far it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.cli._output import say, show, table

if TYPE_CHECKING:
    from skipdit_cli.metrics import Asset
    from skipdit_cli.weights import Card
    from skipdit_cli.weights._fetch import Progress
    from skipdit_cli.weights.assets_download import AssetPlan
    from skipdit_cli.weights.download import Plan


def whole_size(card: "Card") -> str:
    """The size of a checkpoint with its components, as it is known beforehand."""
    from skipdit_cli import weights

    return weights.size_text(card.size + sum(part.size for part in card.components.values()))


def show_list() -> None:
    """Everything that can be fetched: models and captions, then what metrics need."""
    headings = ("name", "state", "denoiser", "with its parts", "licence", "source")
    show(table(headings, _models()))
    show("")
    show(table(("--metrics", "state", "size", "for", "licence", "source"), _assets()))


def _models() -> list[tuple[str, ...]]:
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
        rows.append((card.name, state, size, whole_size(card), card.licence, card.source))
    state = "here" if coco_list().is_file() else "absent"
    size = weights.size_text(coco.SIZE)
    return [*rows, (COCO, state, "", size, coco.LICENCE, coco.ADDRESS)]


def _assets() -> list[tuple[str, ...]]:
    from skipdit_cli import weights
    from skipdit_cli.weights import assets

    rows: list[tuple[str, ...]] = []
    for name, asset in assets.declared().items():
        size, users = weights.size_text(asset.size), ", ".join(assets.users(asset))
        rows.append((name, assets.state(asset)[0], size, users, asset.licence, asset.source))
    return rows


def say_sources(
    cards: "Sequence[Card]", *, captions: bool = False, assets: "Sequence[Asset]" = ()
) -> None:
    """Where everything is from, how large it is, and its licence."""
    from skipdit_cli import weights
    from skipdit_cli.weights import coco
    from skipdit_cli.weights.inventory import COCO

    for card in cards:
        if not card.embedded:
            say(f"{card.name}: {card.source}, {whole_size(card)}, licence {card.licence}")
    if captions:
        say(f"{COCO}: {coco.ADDRESS}, licence {coco.LICENCE}")
    for asset in assets:
        size = weights.size_text(asset.size)
        say(f"{asset.name}: {asset.source}, {size}, licence {asset.licence}")


def show_plans(
    plans: "list[Plan]",
    assets: "Sequence[AssetPlan]" = (),
    *,
    captions: bool,
    delete_originals: bool,
) -> None:
    """What would be fetched, and how much room that takes."""
    from skipdit_cli import weights
    from skipdit_cli.weights import coco
    from skipdit_cli.weights import download as downloads
    from skipdit_cli.weights.assets import target as asset_target
    from skipdit_cli.weights.assets_download import space_needed
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
    for planned in assets:
        name = planned.asset.name
        jobs += [(name, item.part, item.file, item.licence, item.target) for item in planned.items]
        if not planned.items:
            rows.append((name, "", "", "", "", "", _short(asset_target(planned.asset)), "here"))
    total = 0
    anew = {asset_target(each.asset) for each in assets if each.asset.file}
    for name, part, file, licence, target in jobs:
        changed = target in anew and target.is_file()  # of the right size, but not of its hash
        todo = file.size or 0 if changed else downloads.left(file, target)
        total += todo
        size = "?" if file.size is None else weights.size_text(file.size)
        state = "fetch" if todo == file.size else "resume" if todo else "here"
        digest = file.digest[:12] if len(file.digest) == 64 else ""
        rows.append((name, part, file.label, size, digest, licence, _short(target), state))
    show(table(("model", "part", "file", "size", "sha256", "licence", "target", "state"), rows))
    needed = downloads.space_needed(plans, delete_originals=delete_originals)
    show(
        f"to fetch: {weights.size_text(total)}; room needed with the converted copies: "
        f"{weights.size_text(needed + space_needed(assets))}; all under {weights.home()}"
    )


def _short(path: Path) -> str:
    from skipdit_cli import weights

    return (
        str(path.relative_to(weights.home())) if path.is_relative_to(weights.home()) else "package"
    )


@contextmanager
def bars() -> "Iterator[Progress]":
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
