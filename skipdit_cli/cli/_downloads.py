"""What `skipdit download` prints: what there is, what would be fetched, how far it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.cli._output import say, show, table

if TYPE_CHECKING:
    from skipdit_cli.assets.wanted import Plans, Wanted
    from skipdit_cli.checkpoints._fetch import Progress


def show_list() -> None:
    """Everything that can be fetched: models and lists of prompts, then what metrics need."""
    headings = ("name", "state", "denoiser", "with its parts", "licence", "source")
    show(table(headings, _models()))
    show("")
    show(table(("--metrics", "state", "size", "for", "licence", "source"), _assets()))


def _models() -> list[tuple[str, ...]]:
    from skipdit_cli.assets import clips, coco, lists, wanted
    from skipdit_cli.checkpoints import catalog, licences, local
    from skipdit_cli.checkpoints.inventory import COCO

    rows = []
    for card in catalog.CARDS.values():
        if not card.embedded:
            whole = f"about {local.size_text(wanted.whole_size(card))}"
            licence = licences.told(card.licence, card.elsewhere)
            sizes = local.denoiser_size(card), whole
            rows.append((card.name, wanted.state(card), *sizes, licence, card.source))
    size = f"about {local.size_text(coco.SIZE)}"
    rows.append((COCO, lists.state(COCO), "", size, coco.LICENCE, coco.ADDRESS))
    for name, asset in lists.PUBLISHED.items():
        size = local.size_text(asset.size)
        rows.append((name, lists.state(name), "", size, asset.licence, asset.source))
    training = clips.ON_HUB[clips.TRAINING]
    state = "here" if clips.here(training) else "absent"
    return [*rows, (training.name, state, "", "unknown", training.licence, training.source)]


def _assets() -> list[tuple[str, ...]]:
    from skipdit_cli.assets import assets, clips
    from skipdit_cli.checkpoints import licences, local
    from skipdit_cli.score import real_clips

    rows: list[tuple[str, ...]] = []
    for name, asset in assets.declared().items():
        size, users = local.size_text(asset.size), ", ".join(assets.users(asset))
        rows.append((name, assets.state(asset)[0], size, users, asset.licence, asset.source))
    for name, dataset in real_clips.DATASETS.items():
        state, on_hub = "here" if real_clips.prepared(name) else "absent", clips.ON_HUB.get(name)
        licence = on_hub.licence if on_hub else licences.AUTHORS
        source = on_hub.source if on_hub else dataset.what
        rows.append((name, state, "unknown", "real clips of c2v", licence, source))
    return rows


def say_sources(what: "Wanted") -> None:
    """Where everything is from, how large it is, and its licence."""
    from skipdit_cli.assets import coco
    from skipdit_cli.assets.wanted import whole_size
    from skipdit_cli.checkpoints import licences
    from skipdit_cli.checkpoints.card import EMBEDDED
    from skipdit_cli.checkpoints.inventory import COCO
    from skipdit_cli.checkpoints.local import size_text

    for card in what.cards:
        source = card.source
        if card.by_path:  # what is its own is there, or nowhere
            parts = {part.repository for part in card.components.values()} - {EMBEDDED}
            source = ", ".join(sorted(parts))
        if source and not card.embedded:
            size, licence = size_text(whole_size(card)), licences.told(card.licence, card.elsewhere)
            say(f"{card.name}: {source}, about {size}, licence {licence}")
    if what.captions:
        say(f"{COCO}: {coco.ADDRESS}, licence {coco.LICENCE}")
    for asset in what.assets:
        say(f"{asset.name}: {asset.source}, {size_text(asset.size)}, licence {asset.licence}")
    for each in what.clips:
        say(f"{each.name}: {each.source}, of unknown size, licence {each.licence}")


def show_plans(plans: "Plans", *, delete_originals: bool) -> None:
    """What would be fetched, and how much room that takes."""
    from skipdit_cli.assets import wanted
    from skipdit_cli.checkpoints import local

    files, root = wanted.planned_files(plans), _root(plans)
    rows = []
    for file in files:
        size = "" if file.size is None else local.size_text(file.size)
        if file.label and file.size is None:
            size = "?"
        place = (file.licence, _short(file.target, root), file.state)
        rows.append((file.name, file.part, file.label, size, file.digest[:12], *place))
    show(table(("model", "part", "file", "size", "sha256", "licence", "target", "state"), rows))
    needed = wanted.space_needed(plans, delete_originals=delete_originals)
    show(
        f"to fetch: {local.size_text(sum(file.left for file in files))}; room needed with the "
        f"converted copies: {local.size_text(needed)}; all under {root}"
    )


def _root(plans: "Plans") -> Path:
    """Where everything goes: of pipelines, their cache of huggingface_hub."""
    from skipdit_cli.checkpoints import local

    return plans.pipelines[0].folder.parents[2] if plans.pipelines else local.home()


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else "package"


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
