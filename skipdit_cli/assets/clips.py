"""Clips that the hub has as data sets: real ones for FVD and FID over frames, and training clips.

downloads/NAME/           the files of the data set as they are there
downloads/NAME/unpacked/  what was in its archives

Where a data set has folders for its splits, only the training split is taken, as the paper's
protocols ask for. What the hub has of a data set is seen when it is listed: sizes are not known
beforehand.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from skipdit_cli.assets import _unpack
from skipdit_cli.checkpoints import licences, local
from skipdit_cli.checkpoints._fetch import Progress, fetch, left, silent
from skipdit_cli.checkpoints._sources import Listing, list_repository
from skipdit_cli.checkpoints.download import Item, alone
from skipdit_cli.errors import MissingAssetError
from skipdit_cli.storage.disk import on_disk

CLIPS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".jpg", ".jpeg", ".png", ".webp")
TRAINING = "training-clips"


@dataclass(frozen=True)
class ClipSet:
    """A data set of clips on the hub.

    Attributes:
        name: what `skipdit download` calls it.
        what: what it is, in a few words.
        source: data set on the hub, OWNER/NAME.
        licence: the hub hands the clips on; what may be done with them, their authors say.
    """

    name: str
    what: str
    source: str
    licence: str = licences.AUTHORS


ON_HUB: Mapping[str, ClipSet] = MappingProxyType(  # those that the official README links
    {
        each.name: each
        for each in (
            ClipSet("ffs", "FaceForensics", "maxin-cn/FaceForensics"),
            ClipSet("skytimelapse", "SkyTimelapse", "maxin-cn/SkyTimelapse"),
            ClipSet("taichi", "Taichi-HD", "maxin-cn/Taichi-HD"),
            ClipSet(TRAINING, "clips for training Skip-DiT", "GuanjieChen/video_seg"),
        )
    }
)


@dataclass(frozen=True)
class ClipsPlan:
    """What a download of clips will fetch; `notes` say what their source did not give."""

    clips: ClipSet
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def folder(clips: ClipSet) -> Path:
    """Where the files of a data set are, or will be."""
    return local.home() / "downloads" / "clips" / clips.name


def here(clips: ClipSet) -> bool:
    """Whether all of a data set was fetched and unpacked."""
    return folder(clips).is_dir() and not (folder(clips) / local.INCOMPLETE).exists()


def plan(clips: ClipSet, listings: dict[str, Listing]) -> ClipsPlan:
    """What has to be fetched for a data set; nothing is asked if it is here.

    Args:
        listings: repositories that were listed already; a new one is added.
    Raises:
        MissingAssetError: the hub cannot be reached, or what it has is of no known kind.
    """
    if here(clips):
        return ClipsPlan(clips, ())
    key = f"datasets/{clips.source}"
    if key not in listings:
        listings[key] = list_repository(clips.source, kind="dataset")
    listing = listings[key]
    safe = {name: file for name, file in listing.files.items() if _unpack.safe(name)}
    archives = {name: file for name, file in safe.items() if _unpack.is_archive(name)}
    known = archives or {name: file for name, file in safe.items() if _is_clip(name)}
    if not known:
        has = ", ".join(sorted(listing.files)[:4])
        raise MissingAssetError(
            f"{clips.source} has neither clips nor archives of a known kind (but {has})",
            place=f"skipdit download {clips.name}",
            fix="fetch and unpack it by hand, and give the folder with --from FOLDER",
        )
    items = tuple(
        Item("clips", known[name], folder(clips) / name, clips.licence)
        for name in training_split(known)
    )
    return ClipsPlan(clips, items, (listing.note,) if listing.note else ())


def space_needed(plans: Iterable[ClipsPlan]) -> int:
    """Bytes by which the disk will be fuller: what comes, and about as much of archives again."""
    items = [item for each in plans for item in each.items]
    archives = sum(item.file.size or 0 for item in items if _unpack.is_archive(item.file.path))
    return archives + sum(left(item.file, item.target) for item in items)


def execute(plan: ClipsPlan, *, progress: Progress = silent) -> Path:
    """Fetch the files of a data set and unpack its archives; what is there already is kept.

    Returns:
        The folder that has its clips, at any depth.
    Raises:
        MissingAssetError: the network or the source failed, or an archive is damaged.
        StoreError: the disk cannot be written, or another process is downloading.
    """
    where = folder(plan.clips)
    if not plan.items:
        return where
    with alone():
        marker = where / local.INCOMPLETE
        with on_disk(marker):
            where.mkdir(parents=True, exist_ok=True)
            marker.touch()
        for item in plan.items:
            fetch(item.file, item.target, progress=progress)
        for item in plan.items:
            if _unpack.is_whole(item.file.path):
                clips = training_split(filter(_is_clip, _unpack.names(item.target)))
                into = where / "unpacked" / item.file.path
                _unpack.unpack(item.target, into, set(clips), progress=progress)
        with on_disk(marker):
            marker.unlink()
    return where


def delete(clips: ClipSet) -> None:
    """Remove the files of a data set."""
    if folder(clips).is_dir():
        with on_disk(folder(clips)):
            shutil.rmtree(folder(clips))


def training_split(paths: Iterable[str]) -> list[str]:
    """Those paths that are under a folder `train` or `..._train`; all, where there is none.

    >>> training_split(["a/sky_train/1.jpg", "a/sky_test/1.jpg"])
    ['a/sky_train/1.jpg']
    """
    paths = sorted(paths)
    return [path for path in paths if _trains(path)] or paths


def _trains(path: str) -> bool:
    *folders, name = PurePosixPath(path.lower()).parts
    folders += [name.partition(".")[0]] if _unpack.is_archive(name) else []
    return any(part == "train" or part.endswith("_train") for part in folders)


def _is_clip(name: str) -> bool:
    return name.lower().endswith(CLIPS)


def fetching(name: str) -> str:
    """The command that fetches a data set of clips, or makes of a user's own what is not there."""
    if name not in ON_HUB:
        return f"skipdit download --metrics {name} --from FOLDER"
    what = name if name == TRAINING else f"--metrics {name}"
    return licences.command(what, [ON_HUB[name].licence])
