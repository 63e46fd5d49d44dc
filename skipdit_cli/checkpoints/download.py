"""Fetch a released checkpoint with its components, and convert it to the layout of diffusers.

downloads/NAME/           the official file, kept unless it is to be deleted
weights/NAME/             the denoiser: safetensors + config.json
components/REPO/FOLDER/   VAE, tokenizers, text encoders as published
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.checkpoints import inventory, local, networks
from skipdit_cli.checkpoints._fetch import Progress, existing, fetch, left, mismatch, silent
from skipdit_cli.checkpoints._sources import (
    Listing,
    RemoteFile,
    component_files,
    denoiser_file,
    list_repository,
)
from skipdit_cli.checkpoints.catalog import Card
from skipdit_cli.checkpoints.official import check_keys, converted, read_state
from skipdit_cli.errors import MissingAssetError, StoreError, UsageError
from skipdit_cli.storage.disk import on_disk, replacing, write_whole

if TYPE_CHECKING:
    from torch import Tensor, nn

_KEYS = "keys.txt"


@dataclass(frozen=True)
class Item:
    """A file to fetch: the part it belongs to, where it comes from, where it goes."""

    part: str
    file: RemoteFile
    target: Path
    licence: str


@dataclass(frozen=True)
class Plan:
    """What a download of a checkpoint will fetch; `notes` say what the sources did not give."""

    card: Card
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()


def plan(card: Card, listings: dict[str, Listing]) -> Plan:
    """What has to be fetched for a checkpoint; nothing is asked if all of it is here.

    Args:
        listings: repositories that were listed already; new ones are added.
    Raises:
        MissingAssetError: a source cannot be reached, or does not have a file.
    """

    def listed(repository: str) -> Listing:
        if repository not in listings:
            listings[repository] = list_repository(repository)
        return listings[repository]

    items, repositories = [], []
    for part in inventory.lacking(card):
        if card.embedded:
            raise MissingAssetError(
                f"the {part.name} of {card.name}, which ships with the package, is {part.state}",
                place=str(part.folder),
                fix="install the package again",
            )
        if part.name == inventory.DENOISER:
            if card.by_path:
                local.require(card)
            listing = None if "://" in card.source else listed(card.source)
            file = denoiser_file(card, listing)
            target = _originals(card) / file.name
            items.append(Item(part.name, file, target, card.licence))
            repositories.append(card.source)
        else:
            component = card.components[part.name]
            listing = listed(component.repository)
            items += [
                Item(part.name, file, part.folder / file.name, listing.licence)
                for file in component_files(component, listing)
            ]
            repositories.append(component.repository)
    notes = (listings[name].note for name in dict.fromkeys(repositories) if name in listings)
    return Plan(card, tuple(items), tuple(note for note in notes if note))


def require_space(
    plans: Sequence[Plan], *, delete_originals: bool = False, beside: int = 0
) -> None:
    """Raise StoreError unless there is room for everything at its largest.

    Args:
        beside: bytes of what is fetched beside the checkpoints.
    """
    needed = space_needed(plans, delete_originals=delete_originals) + beside
    more = "" if delete_originals or not plans else ", or add --delete-originals"
    require_room(needed, local.home(), named_by="SKIPDIT_HOME", more=more)


def require_room(needed: int, folder: Path, *, named_by: str, more: str = "") -> None:
    """Raise StoreError unless so many bytes are free on the disk of a folder.

    Args:
        named_by: the variable that names another one. more: what else makes room.
    """
    free = shutil.disk_usage(existing(folder)).free
    if needed > free:
        raise StoreError(
            f"needs {local.size_text(needed)} ({needed} bytes) and "
            f"{local.size_text(free)} ({free} bytes) are free",
            place=str(folder),
            fix=f"free some space, or let {named_by} name a folder on another disk{more}",
        )


def space_needed(plans: Sequence[Plan], *, delete_originals: bool = False) -> int:
    """Bytes by which the disk will be fuller at the worst moment: transfers and conversions."""
    held = peak = 0
    counted: set[Path] = set()
    for each in plans:
        for item in each.items:
            if item.target in counted:  # two models share a component
                continue
            counted.add(item.target)
            held += left(item.file, item.target)
            if item.part == inventory.DENOISER:
                held += _converted_size(each.card)
                peak = max(peak, held)
                held -= item.file.size or 0 if delete_originals else 0
    return max(peak, held)


def execute(plan: Plan, *, delete_original: bool = False, progress: Progress = silent) -> Path:
    """Fetch and convert. What is complete is kept if a later file fails.

    Args:
        delete_original: delete the official file once it is converted, also one that an earlier
            download kept.
    Returns:
        The converted weights file.
    Raises:
        UsageError: what came is not this model's checkpoint.
        MissingAssetError: the network or a source did not give a file.
        StoreError: the disk cannot be written, or another process is downloading.
    """
    if not plan.items and not delete_original:
        return local.weights_file(plan.card)
    with alone():
        absent = {part.name: part.folder for part in inventory.lacking(plan.card)}
        for item in plan.items:
            if item.part == inventory.DENOISER and item.part in absent:
                source = _original(item, progress=progress)
                progress(f"converting {plan.card.name}", 0, 0)
                convert(plan.card, source)
        for name in dict.fromkeys(item.part for item in plan.items):
            if name in absent and name != inventory.DENOISER:
                files = [item for item in plan.items if item.part == name]
                fetch_component(absent[name], files, progress=progress)
        if delete_original and _originals(plan.card).is_dir():
            with on_disk(_originals(plan.card)):
                shutil.rmtree(_originals(plan.card))
    return local.weights_file(plan.card)


def kept_originals(card: Card) -> list[Path]:
    """The official files that downloads of a checkpoint have kept."""
    files = (path for path in _originals(card).glob("*") if path.is_file())
    return sorted(path for path in files if not path.name.startswith(".") and path.name != _KEYS)


def convert(card: Card, source: Path) -> Path:
    """Turn an official file into `weights/NAME/` with safetensors and config.json.

    Raises:
        UsageError: the file is truncated, unsafe, or another model's; `downloads/NAME/keys.txt`
            then lists every key that is missing or left over.
        StoreError: the disk is full or the folder cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    model = networks.build(card)
    official = read_state(source)
    state: dict[str, Tensor] = converted(card.family, model.config, official)
    try:
        check_keys(model, state, place=str(source))
    except UsageError as error:
        report = _report_keys(card, model, state)
        raise UsageError(
            error.problem, place=error.place, fix=f"{error.fix}; all keys are in {report}"
        ) from None
    target = local.weights_file(card)
    tensors = {key: value.contiguous() for key, value in state.items()}
    try:
        with on_disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            model.save_config(target.parent)
            with replacing(target) as temporary:
                save_file(tensors, temporary, metadata={"format": "pt"})
                shutil.copymode(target.with_name("config.json"), temporary)  # it would be 0600
    except SafetensorError as error:  # the disk's refusal in its own words
        raise StoreError(
            f"cannot be written ({error})",
            place=str(target),
            fix="free some space and run the same command again",
        ) from None
    (_originals(card) / _KEYS).unlink(missing_ok=True)
    return target


def _originals(card: Card) -> Path:
    return local.home() / "downloads" / card.name


def _original(item: Item, *, progress: Progress) -> Path:
    """The official file, from huggingface_hub's cache where it is there and sound."""
    cached = item.file.cached
    if cached and not mismatch(item.file, cached, progress=progress):
        return cached
    return fetch(item.file, item.target, progress=progress)


def fetch_component(folder: Path, items: Sequence[Item], *, progress: Progress) -> None:
    """Fetch a component's files; the folder counts as there when all of them are."""
    with on_disk(folder / local.INCOMPLETE):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / local.INCOMPLETE).touch()
    for item in items:
        fetch(item.file, item.target, progress=progress)
    if damage := inventory.component_damage(items[0].part, folder):
        raise MissingAssetError(
            f"what {items[0].file.repository} has of the {items[0].part} is not whole: {damage}",
            fix="look at the repository",
        )
    (folder / local.INCOMPLETE).unlink()


def _report_keys(card: Card, model: "nn.Module", state: "dict[str, Tensor]") -> Path:
    """Write down how a file's keys differ from the model's."""
    wanted = model.state_dict()
    lines = [f"missing {key} {tuple(wanted[key].shape)}" for key in wanted if key not in state]
    lines += [f"left over {key} {tuple(state[key].shape)}" for key in state if key not in wanted]
    lines += [
        f"other shape {key} {tuple(state[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    report = _originals(card) / _KEYS
    write_whole(report, "\n".join(lines).encode() + b"\n")
    return report


def _converted_size(card: Card) -> int:
    """Bytes of the converted file at most: it has the file's precision, float32 or less."""
    return 4 * sum(value.numel() for value in networks.build(card).state_dict().values())


@contextmanager
def alone() -> Iterator[None]:
    """One download at a time; the operating system frees the lock of a process that ends.

    Raises:
        StoreError: another process is downloading.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(local.home() / "downloads.lock")
    with on_disk(Path(lock.lock_file)):
        local.home().mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                "another download is running",
                place=str(local.home()),
                fix="wait for it to end, or stop it: it goes on where it was",
            ) from None
    try:
        yield
    finally:
        lock.release()
