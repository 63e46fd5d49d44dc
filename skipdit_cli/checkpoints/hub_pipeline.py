"""Fetch a pipeline of the hub into the cache of huggingface_hub, as every download here is fetched.

It lies there as that writes it, so that diffusers finds it as well:

models--OWNER--NAME/blobs/HASH              what is in a file, resumed and verified
models--OWNER--NAME/snapshots/COMMIT/PATH   its name, a link to that
models--OWNER--NAME/refs/main               the commit, written when all of it is here
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skipdit_cli.checkpoints import pipeline
from skipdit_cli.checkpoints._fetch import Progress, fetch, left, link_or_copy, silent
from skipdit_cli.checkpoints._sources import (
    FROM_FILE,
    Listing,
    RemoteFile,
    component_files,
    list_repository,
)
from skipdit_cli.checkpoints.catalog import Component
from skipdit_cli.checkpoints.download import Item, alone
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.storage.disk import on_disk, write_whole

MAIN = "main"


@dataclass(frozen=True)
class PipelinePlan:
    """What a download of a pipeline will fetch.

    Attributes:
        name: OWNER/NAME.
        folder: where its files will be, by their names.
        items: configurations first; a target is where the content goes.
        licence: as the hub has it.
        notes: why nothing was asked.
    """

    name: str
    folder: Path
    items: tuple[Item, ...]
    licence: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes by which the disk will be fuller."""
        return sum(left(item.file, item.target) for item in self.items)


@contextmanager
def _as_a_whole() -> Iterator[None]:
    """No error advises to give a file, of which a pipeline has many."""
    try:
        yield
    except MissingAssetError as error:
        fix = error.fix.removesuffix(FROM_FILE)
        raise MissingAssetError(error.problem, place=error.place, fix=fix) from None


@_as_a_whole()
def plan(name: str, *, configs: bool = False) -> PipelinePlan:
    """What has to be fetched of a pipeline; its model_index.json is fetched to know that.

    Where the hub cannot be reached, what is here is taken.

    Args:
        configs: its configurations and tokenizers alone.
    Raises:
        MissingAssetError: the hub cannot be reached, or has no such repository, or lacks a part.
        UsageError: it is no pipeline, or one of code that a repository brings.
    """
    listing = list_repository(name)
    if listing.note:
        return _of_what_is_here(listing, configs=configs)
    if pipeline.INDEX not in listing.files:
        problem = f"{name} has no {pipeline.INDEX}"
        raise UsageError(problem, place="--pipeline", fix="give a pipeline of diffusers")
    folder = _cache(name) / "snapshots" / listing.commit
    index = _item("", listing.files[pipeline.INDEX], listing)
    _bring(index, folder, progress=silent)
    files = {index.file: index}
    for part in pipeline.parts(folder):
        files |= {each: _item(part, each, listing) for each in _files(part, listing, configs)}
    items = sorted(files.values(), key=lambda item: not item.file.name.endswith(pipeline.CONFIGS))
    return PipelinePlan(name, folder, tuple(items), listing.licence)


@_as_a_whole()
def execute(planned: PipelinePlan, *, progress: Progress = silent) -> Path:
    """Fetch what was planned. What is complete is kept if a later file fails.

    Returns:
        The folder of the pipeline.
    Raises:
        MissingAssetError: the network or the hub did not give a file.
        StoreError: the disk cannot be written, or another process is downloading.
    """
    if planned.items:
        with alone():
            for item in planned.items:
                _bring(item, planned.folder, progress=progress)
            write_whole(_cache(planned.name) / "refs" / MAIN, planned.folder.name.encode())
    return planned.folder


def _of_what_is_here(listing: Listing, *, configs: bool) -> PipelinePlan:
    """The plan where the hub cannot be reached: nothing, if what is here will do."""
    folder = pipeline.locate(listing.repository)
    if folder is None or (not configs and pipeline.lacking(folder)):
        problem = f"{listing.note}, and what is here of {listing.repository} is not all"
        raise MissingAssetError(problem, fix="run it again where the hub can be reached")
    return PipelinePlan(listing.repository, folder, (), notes=(listing.note,))


def _cache(name: str) -> Path:
    """The folder of a repository in the cache of huggingface_hub."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def _files(part: str, listing: Listing, configs: bool) -> list[RemoteFile]:
    """The files of a part: configurations and vocabularies, and one set of weights."""
    texts = [
        file
        for file in listing.files.values()
        if str(PurePosixPath(file.path).parent) == part and pipeline.is_config(file.name)
    ]
    if configs and texts:
        return texts
    return [*texts, *component_files(Component(listing.repository, part), listing)]


def _item(part: str, file: RemoteFile, listing: Listing) -> Item:
    content = file.digest or f"{listing.commit}-{file.path.replace('/', '-')}"
    return Item(part, file, _cache(listing.repository) / "blobs" / content, listing.licence)


def _bring(item: Item, folder: Path, *, progress: Progress) -> None:
    """Fetch what is in a file and give it its name in a folder."""
    blob, named = item.target, folder / item.file.path
    fetch(item.file, blob, progress=progress)
    with on_disk(named):
        named.parent.mkdir(parents=True, exist_ok=True)
        if named.exists() and named.samefile(blob):
            return
        named.unlink(missing_ok=True)
        with suppress(OSError):  # a disk without such links
            named.symlink_to(os.path.relpath(blob, named.parent))
            return
        link_or_copy(blob, named)
