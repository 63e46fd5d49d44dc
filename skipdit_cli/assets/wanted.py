"""What a user wants fetched: models, lists of prompts, what metrics need and clips, in one go.

`Wanted` is what was named, `Plans` is what of that has to be fetched; both are made before anything
is.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from skipdit_cli.assets import assets, clips, coco, lists
from skipdit_cli.assets import download as assets_download
from skipdit_cli.assets.clips import ClipSet, ClipsPlan
from skipdit_cli.assets.download import AssetPlan
from skipdit_cli.checkpoints import catalog, hub_pipeline, inventory, licences
from skipdit_cli.checkpoints import download as downloads
from skipdit_cli.checkpoints._fetch import Progress
from skipdit_cli.checkpoints._sources import Listing
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.checkpoints.hub_pipeline import PipelinePlan
from skipdit_cli.checkpoints.inventory import COCO
from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.metrics import Asset

Bars = Callable[[], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched.

    Attributes:
        cards: of the models.
        captions: whether COCO's captions are.
        assets: of what metrics need, and other lists of prompts.
        clips: data sets of them.
    """

    cards: tuple[Card, ...]
    captions: bool
    assets: tuple[Asset, ...]
    clips: tuple[ClipSet, ...]

    @property
    def count(self) -> int:
        """How many things these are."""
        return len(self.cards) + self.captions + len(self.assets) + len(self.clips)


def wanted(names: Iterable[str], needed: Iterable[Asset] = (), real: Iterable[str] = ()) -> Wanted:
    """What names stand for, each once.

    Args:
        names: of models, lists of prompts, or the training clips.
        needed: what metrics need.
        real: data sets of real clips.
    Raises:
        UsageError: a name is not known, or is one of what metrics need.
    """
    models = dict.fromkeys(names)
    others = (*lists.NAMES, clips.TRAINING)
    for name in models:
        if name not in others and not catalog.known(name):
            raise _unknown(name)
    cards = tuple(catalog.card(name) for name in models if name not in others)
    listed = (lists.PUBLISHED[name] for name in models if name in lists.PUBLISHED)
    sets = [*real, *(name for name in models if name == clips.TRAINING)]
    return Wanted(
        cards,
        COCO in models,
        tuple(dict.fromkeys((*needed, *listed))),
        tuple(clips.ON_HUB[name] for name in sets),
    )


def _unknown(name: str) -> UsageError:
    """The error for a name that no model has."""
    if name in assets.known():
        return UsageError(
            f"'{name}' is not a model", place="skipdit download", fix=f"write --metrics {name}"
        )
    known = (*catalog.cards(), *lists.NAMES, clips.TRAINING)
    return unknown("model", name, known, place="skipdit download")


def require_one(what: Wanted) -> None:
    """Raise a UsageError unless one thing is wanted, which `take` can bring in."""
    if what.count != 1:
        raise UsageError(
            "--from is for one model, or one file of metrics", place="--from", fix="name it alone"
        )


def check_licences(what: Wanted, *, accepted: bool) -> None:
    """Raise a UsageError if something is to be fetched whose licence has to be accepted first."""
    for card in what.cards:
        if inventory.lacking(card):
            licences.check(card.name, card.licence, elsewhere=card.elsewhere, accepted=accepted)
    for asset in what.assets:
        if assets.lacking(asset):
            licences.check(asset.name, asset.licence, accepted=accepted)
    for each in what.clips:
        if not clips.here(each):
            licences.check(each.name, each.licence, accepted=accepted)


@dataclass(frozen=True)
class Plans:
    """What has to be fetched.

    Attributes:
        models: one plan per model.
        captions: whether COCO's captions are wanted.
        assets: one plan for each of what metrics need, and of other lists of prompts.
        clips: one plan per data set.
        pipelines: of diffusers, one plan each.
    """

    models: tuple[downloads.Plan, ...] = ()
    captions: bool = False
    assets: tuple[AssetPlan, ...] = ()
    clips: tuple[ClipsPlan, ...] = ()
    pipelines: tuple[PipelinePlan, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What the sources did not give, each once."""
        return list(dict.fromkeys(note for each in self._all for note in each.notes))

    @property
    def items(self) -> list[downloads.Item]:
        """All files that have to be fetched, but for COCO's captions."""
        return [item for each in self._all for item in each.items]

    @property
    def _all(self) -> tuple[downloads.Plan | AssetPlan | ClipsPlan | PipelinePlan, ...]:
        return (*self.models, *self.assets, *self.clips, *self.pipelines)


@dataclass(frozen=True)
class Fetched:
    """One thing that is here now.

    Attributes:
        path: its file or folder.
        kept: official files that were left beside it after their conversion.
    """

    name: str
    path: Path
    kept: tuple[Path, ...] = ()


def plan(what: Wanted) -> Plans:
    """What has to be fetched; the sources are asked, each once, and nothing is fetched.

    Raises:
        MissingAssetError: a source cannot be reached, or does not have a file.
    """
    listings: dict[str, Listing] = {}
    models = tuple(downloads.plan(card, listings) for card in what.cards)
    needed = tuple(assets_download.plan(asset, listings) for asset in what.assets)
    sets = tuple(clips.plan(each, listings) for each in what.clips)
    return Plans(models, what.captions, needed, sets)


def fetch(plans: Plans, *, delete_originals: bool, bars: Bars) -> Iterator[Fetched]:
    """Fetch and convert, one thing after the other; each is yielded as soon as it is here.

    Args:
        delete_originals: delete official files after their conversion, also those kept earlier.
        bars: opens the display of progress.
    Raises:
        UsageError: what came is not the model's checkpoint.
        MissingAssetError: the network or a source did not give a file.
        StoreError: there is no room for all of it, or the disk cannot be written.
    """
    if plans.items:
        beside = assets_download.space_needed(plans.assets) + clips.space_needed(plans.clips)
        downloads.require_space(plans.models, delete_originals=delete_originals, beside=beside)
    for pipeline in plans.pipelines:
        downloads.require_room(pipeline.size, pipeline.folder, named_by="HF_HOME")
    with bars() as progress:
        for each in plans.models:
            path = downloads.execute(each, delete_original=delete_originals, progress=progress)
            kept = tuple(downloads.kept_originals(each.card)) if each.items else ()
            yield Fetched(each.card.name, path, kept)
        if plans.captions:
            path = coco.download(delete_original=delete_originals, progress=progress)
            yield Fetched(COCO, path)
        for planned in plans.assets:
            yield Fetched(planned.asset.name, assets_download.execute(planned, progress=progress))
        for set_ in plans.clips:
            yield Fetched(set_.clips.name, clips.execute(set_, progress=progress))
        for pipeline in plans.pipelines:
            yield Fetched(pipeline.name, hub_pipeline.execute(pipeline, progress=progress))


def take(what: Wanted, source: Path) -> Fetched:
    """Convert or bring in the one thing that is wanted and is here already.

    Raises:
        UsageError: several things are wanted, or the file is another one.
        StoreError: the disk cannot be written.
    """
    require_one(what)
    if what.cards:
        (card,) = what.cards
        return Fetched(card.name, downloads.convert(card, source))
    if what.captions:
        return Fetched(COCO, coco.download(archive=source))
    if what.clips:
        raise UsageError(
            f"{what.clips[0].name} are used as they are", place="--from", fix="leave it out"
        )
    (asset,) = what.assets
    return Fetched(asset.name, assets_download.take(asset, source))


@dataclass(frozen=True)
class PlannedFile:
    """One file of what would be fetched, or a part that is here.

    Attributes:
        name: of the model or of what metrics need.
        part: of the model: its denoiser, a text encoder, ...
        label: the file as its source names it; "" for a part that is here.
        size: bytes of the file; None where the source does not say.
        digest: sha256, or "" where the source has none.
        target: where the file goes, or where the part is.
        left: bytes that are still to be fetched.
        state: "fetch", "resume" or "here".
    """

    name: str
    part: str
    label: str
    size: int | None
    digest: str
    licence: str
    target: Path
    left: int
    state: str


def planned_files(plans: Plans) -> list[PlannedFile]:
    """Every file that would be fetched, and every part that is here."""
    jobs = []  # (name, part, file, licence, target)
    files: list[PlannedFile] = []
    for each in plans.models:
        name = each.card.name
        jobs += [(name, item.part, item.file, item.licence, item.target) for item in each.items]
        parts = [part for part in inventory.parts(each.card) if part.state == "here"]
        files += [_here(name, part.name, part.folder) for part in parts]
    captions = inventory.coco_list()
    if plans.captions and captions.is_file():
        files.append(_here(COCO, "captions", captions))
    elif plans.captions:
        jobs.append((COCO, "captions", coco.source(), coco.LICENCE, coco.target()))
    for planned in plans.assets:
        name = planned.asset.name
        jobs += [(name, item.part, item.file, item.licence, item.target) for item in planned.items]
        if not planned.items:
            files.append(_here(name, "", assets.target(planned.asset)))
    for each_set in plans.clips:
        name = each_set.clips.name
        jobs += [(name, "", item.file, item.licence, item.target) for item in each_set.items]
        if not each_set.items:
            files.append(_here(name, "", clips.folder(each_set.clips)))
    for pipeline in plans.pipelines:
        jobs += [
            (pipeline.name, each.part, each.file, each.licence, each.target)
            for each in pipeline.items
        ]
        if not pipeline.items:
            files.append(_here(pipeline.name, "", pipeline.folder))
    anew = {assets.target(each.asset) for each in plans.assets if each.asset.file}
    for name, part, file, licence, target in jobs:
        changed = target in anew and target.is_file()  # of the right size, but not of its hash
        todo = file.size or 0 if changed else downloads.left(file, target)
        state = "fetch" if todo == file.size else "resume" if todo else "here"
        digest = file.digest if len(file.digest) == 64 else ""
        files.append(
            PlannedFile(name, part, file.label, file.size, digest, licence, target, todo, state)
        )
    return files


def _here(name: str, part: str, path: Path) -> PlannedFile:
    return PlannedFile(name, part, "", None, "", "", path, 0, "here")


def space_needed(plans: Plans, *, delete_originals: bool) -> int:
    """Bytes by which the disk will be fuller at the worst moment."""
    needed = downloads.space_needed(plans.models, delete_originals=delete_originals)
    needed += assets_download.space_needed(plans.assets)
    needed += sum(pipeline.size for pipeline in plans.pipelines)
    return needed + clips.space_needed(plans.clips)


def whole_size(card: Card) -> int:
    """Bytes of a checkpoint with its components, as they are known beforehand."""
    return card.size + sum(part.size for part in card.components.values())


def state(card: Card) -> str:
    """Of a checkpoint as a whole: "here", "absent", "partly" or "damaged"."""
    states = {part.state for part in inventory.parts(card)}
    if len(states) == 1:
        return states.pop()
    return "damaged" if "damaged" in states else "partly"
