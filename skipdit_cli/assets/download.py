"""Fetch what metrics need from outside, or take it from a file that is here already."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from skipdit_cli.assets import assets
from skipdit_cli.checkpoints import local
from skipdit_cli.checkpoints._fetch import (
    Progress,
    fetch,
    left,
    link_or_copy,
    mismatch,
    silent,
)
from skipdit_cli.checkpoints._sources import (
    Listing,
    RemoteFile,
    component_files,
    list_repository,
)
from skipdit_cli.checkpoints.catalog import Component
from skipdit_cli.checkpoints.download import Item, alone, fetch_component
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.metrics import Asset
from skipdit_cli.storage import given
from skipdit_cli.storage.disk import on_disk, replacing


@dataclass(frozen=True)
class AssetPlan:
    """What a download of an asset will fetch; `notes` say what its source did not give."""

    asset: Asset
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def plan(asset: Asset, listings: dict[str, Listing]) -> AssetPlan:
    """What has to be fetched for an asset; nothing is asked if it is here and sound.

    Args:
        listings: repositories that were listed already; a new one is added.
    Raises:
        MissingAssetError: the source cannot be reached, or does not have it.
    """
    if not assets.lacking(asset):
        return AssetPlan(asset, ())
    if asset.file:
        if (local := _local(asset)) and not local.is_file():
            raise MissingAssetError(
                f"cannot fetch {asset.name} from {asset.source}: there is no such file",
                fix="put it there, or give the file itself with --from FILE",
            )
        item = Item("file", _published(asset), assets.target(asset), asset.licence)
        return AssetPlan(asset, (item,))
    if asset.source not in listings:
        listings[asset.source] = list_repository(asset.source)
    listing = listings[asset.source]
    items = tuple(
        Item("network", file, assets.folder(asset) / file.name, listing.licence or asset.licence)
        for file in component_files(Component(asset.source), listing)
    )
    return AssetPlan(asset, items, (listing.note,) if listing.note else ())


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
    asset, target = plan.asset, assets.target(plan.asset)
    if plan.items:
        with alone():
            if assets.lacking(asset):
                _fetch(plan, target, progress=progress)
    if not (assets.unchanged(asset) if asset.file else assets.record(asset)):
        _write_down(asset)  # it came by hand, or its time was lost on the way
    return target


def _fetch(plan: AssetPlan, target: Path, *, progress: Progress) -> None:
    asset = plan.asset
    if local := _local(asset):
        if wrong := mismatch(_published(asset), local, progress=progress):
            raise MissingAssetError(
                f"{asset.source} is not {asset.name}: {wrong}",
                fix="the metric's file and that file have to agree in size and sha256",
            )
        with on_disk(target):
            _bring(local, target)
    elif asset.file:
        fetch(plan.items[0].file, target, progress=progress)
    else:
        fetch_component(target, plan.items, progress=progress)
        if wrong := assets.damage(asset, target):
            raise MissingAssetError(
                f"what came of {asset.source} is not {asset.name}: {wrong}",
                fix="look at the source, or give the folder itself with --from FOLDER",
            )
    _write_down(asset)


def take(asset: Asset, source: Path) -> Path:
    """Bring in an asset that is here already, as a second name of the file or else as a copy.

    Args:
        source: the file, or a folder with the files of the hub repository.
    Returns:
        The file or folder in its known place.
    Raises:
        UsageError: it is another file, or not whole.
        StoreError: the disk is full or cannot be written.
    """
    target = assets.target(asset)
    if asset.file:
        given.check(source)
    elif not source.is_dir():
        raise UsageError("no such folder", place=str(source))
    wrong = mismatch(_published(asset), source) if asset.file else assets.damage(asset, source)
    if wrong:
        raise UsageError(
            f"is not {asset.name}: {wrong}", place=str(source), fix=f"see {_page(asset.source)}"
        )
    with alone(), on_disk(target):
        if asset.file:
            _bring(source, target)
        else:
            target.mkdir(parents=True, exist_ok=True)
            (target / local.INCOMPLETE).touch()
            there_is = {
                each.name: RemoteFile(each.name, "") for each in source.iterdir() if each.is_file()
            }
            for file in component_files(Component(asset.name), Listing(asset.name, there_is)):
                _bring(source / file.name, target / file.name)
            (target / local.INCOMPLETE).unlink()
        _write_down(asset)
    return target


def _bring(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        link_or_copy(source, temporary)


def _published(asset: Asset) -> RemoteFile:
    """The file at an asset's address; its hash is known, so nothing is asked beforehand."""
    digest = asset.digest
    return RemoteFile(asset.file, asset.source, asset.size, digest, version=digest)


def _local(asset: Asset) -> Path | None:
    """The file that a file: address names."""
    address = urlsplit(asset.source)
    return Path(url2pathname(address.path)) if address.scheme == "file" else None


def _write_down(asset: Asset) -> None:
    with on_disk(assets.record_path(asset)):
        assets.write_record(asset)


def _page(source: str) -> str:
    return source if "://" in source else f"{source} on the hub"
