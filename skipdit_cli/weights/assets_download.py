"""Fetch what metrics need from outside, or take it from a file that is here already."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from skipdit_cli import weights
from skipdit_cli._disk import on_disk, replacing
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.weights import assets
from skipdit_cli.weights._fetch import (
    Progress,
    fetch,
    left,
    link_or_copy,
    mismatch,
    silent,
)
from skipdit_cli.weights._sources import (
    Listing,
    RemoteFile,
    component_files,
    list_repository,
)
from skipdit_cli.weights.assets import Asset
from skipdit_cli.weights.catalog import Component
from skipdit_cli.weights.download import Item, alone, fetch_component


@dataclass(frozen=True)
class AssetPlan:
    """What a download of an asset will fetch; `notes` say what its source did not give."""

    asset: Asset
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def plan(name: str, listings: dict[str, Listing]) -> AssetPlan:
    """What has to be fetched for an asset; nothing is asked if it is here and sound.

    Args:
        listings: repositories that were listed already; a new one is added.
    Raises:
        MissingAssetError: the source cannot be reached, or does not have it.
    """
    chosen = assets.asset(name)
    if not assets.lacking(name):
        return AssetPlan(chosen, ())
    if chosen.file:
        item = Item("file", _published(chosen), assets.target(name), chosen.licence)
        return AssetPlan(chosen, (item,))
    if chosen.source not in listings:
        listings[chosen.source] = list_repository(chosen.source)
    listing = listings[chosen.source]
    items = tuple(
        Item("network", file, assets.folder(name) / file.name, listing.licence or chosen.licence)
        for file in component_files(Component(chosen.source), listing)
    )
    return AssetPlan(chosen, items, (listing.note,) if listing.note else ())


def space_needed(plans: Sequence[AssetPlan]) -> int:
    """Bytes by which the disk will be fuller."""
    return sum(left(item.file, item.target) for each in plans for item in each.items)


def execute(plan: AssetPlan, *, progress: Progress = silent) -> Path:
    """Fetch what was planned, check it, and write down what came.

    Returns:
        The file, or the folder of a hub repository.
    Raises:
        MissingAssetError: the network or the source failed, or what came is not what was expected.
        StoreError: the disk cannot be written, or another process is downloading.
    """
    name, target = plan.asset.name, assets.target(plan.asset.name)
    if plan.items:
        with alone():
            if assets.lacking(name):
                _fetch(plan, target, progress=progress)
    if not (assets.unchanged(name) if plan.asset.file else assets.record(name)):
        _write_down(name)  # it came by hand, or its time was lost on the way
    return target


def _fetch(plan: AssetPlan, target: Path, *, progress: Progress) -> None:
    name = plan.asset.name
    if plan.asset.file:
        fetch(plan.items[0].file, target, progress=progress)
    else:
        fetch_component(target, plan.items, progress=progress)
        if wrong := assets.damage(name, target):
            raise MissingAssetError(
                f"what came of {plan.asset.source} is not {name}: {wrong}",
                fix="look at the source, or give the folder itself with --from FOLDER",
            )
    _write_down(name)


def take(name: str, source: Path) -> Path:
    """Bring in an asset that is here already, as a second name of the file or else as a copy.

    Args:
        source: the file, or a folder with the files of the hub repository.
    Returns:
        The file or folder in its known place.
    Raises:
        UsageError: it is another file, or not whole.
        StoreError: the disk is full or cannot be written.
    """
    chosen, target = assets.asset(name), assets.target(name)
    there: Callable[[], bool] = source.is_file if chosen.file else source.is_dir
    if not there():
        raise UsageError(f"no such {'file' if chosen.file else 'folder'}", place=str(source))
    wrong = mismatch(_published(chosen), source) if chosen.file else assets.damage(name, source)
    if wrong:
        raise UsageError(
            f"is not {name}: {wrong}", place=str(source), fix=f"see {_page(chosen.source)}"
        )
    with alone(), on_disk(target):
        if chosen.file:
            _bring(source, target)
        else:
            target.mkdir(parents=True, exist_ok=True)
            (target / weights.INCOMPLETE).touch()
            there_is = {
                each.name: RemoteFile(each.name, "") for each in source.iterdir() if each.is_file()
            }
            for file in component_files(Component(name), Listing(name, there_is)):
                _bring(source / file.name, target / file.name)
            (target / weights.INCOMPLETE).unlink()
        _write_down(name)
    return target


def _bring(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        link_or_copy(source, temporary)


def _published(chosen: Asset) -> RemoteFile:
    """The file at an asset's address; its hash is known, so nothing is asked beforehand."""
    digest = chosen.digest
    return RemoteFile(chosen.file, chosen.source, chosen.size, digest, version=digest)


def _write_down(name: str) -> None:
    with on_disk(assets.record_path(name)):
        assets.write_record(name)


def _page(source: str) -> str:
    return source if "://" in source else f"{source} on the hub"
