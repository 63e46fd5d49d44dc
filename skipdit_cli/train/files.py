"""What a model is trained on: one's own images or clips, with their classes or captions.

Models of classes take a folder with a folder for each class, as torchvision's ImageFolder does;
unconditional ones any folder; text models a table of files and captions, as Hugging Face datasets
has it. What is hidden does not count.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import UsageError, warn
from skipdit_cli.recipe import prompts
from skipdit_cli.score import real_videos
from skipdit_cli.score.real_frames import IMAGES
from skipdit_cli.score.real_videos import VIDEOS

TABLES = ("metadata.csv", "metadata.jsonl")  # in a folder, for text models
COLUMNS = ("file_name", "path")  # of a table, of which it has one
CLIP_TASKS = ("c2v", "t2v")


class Item(NamedTuple):
    """An image or a clip.

    Attributes:
        path: a file, or a folder of frames.
        label: the place of its class.
        caption: what it shows.
    """

    path: Path
    label: int | None = None
    caption: str | None = None


class Listing(NamedTuple):
    """Images or clips, in an order of their own, and the names of their classes, sorted."""

    items: tuple[Item, ...]
    classes: tuple[str, ...] = ()


def listed(data: Path, chosen: Card) -> Listing:
    """The images or clips that a model can be trained on.

    Args:
        data: a folder, or for text models also a table (.csv, .tsv, .json, .jsonl), with a column
            of COLUMNS, relative to it, and one of captions.
        chosen: the model; how many classes there are is no matter of it.
    Raises:
        UsageError: there are none, or they are not what the model takes.
    """
    if not data.exists():
        raise UsageError("no such folder", place=f"--data {data}", fix="give that of the data")
    if chosen.text:
        return Listing(tuple(_captioned(_table(data), chosen)))
    if not data.is_dir():
        raise UsageError(
            f"is a file, and {chosen.name} takes no captions",
            place=f"--data {data}",
            fix="give a folder",
        )
    if chosen.num_classes is None:
        return Listing(tuple(Item(path) for path in _found(data, chosen)))
    return _classes(data, chosen)


def _classes(data: Path, chosen: Card) -> Listing:
    """What is in the folders of a folder, each of which is a class."""
    names = sorted(each.name for each in _seen(data) if each.is_dir())
    kind = _kind(chosen)
    if len(names) < 2:
        raise UsageError(
            f"has {f'one class, {names[0]}' if names else 'no classes'}, and {chosen.name} takes "
            "two or more",
            place=f"--data {data}",
            fix=f"give a folder that has a folder of {kind} for each class",
        )
    loose = [each for each in _seen(data) if each.suffix.lower() in (*IMAGES, *VIDEOS)]
    if loose := [each for each in loose if each.is_file()]:
        warn(
            f"{len(loose)} files beside the class folders are left out, such as {loose[0].name}",
            place=str(data),
        )
    found = ((label, _found(data / name, chosen)) for label, name in enumerate(names))
    return Listing(
        tuple(Item(path, label) for label, paths in found for path in paths), tuple(names)
    )


def _found(folder: Path, chosen: Card) -> list[Path]:
    """The images or clips at any depth below a folder, sorted."""
    if chosen.task in CLIP_TASKS:
        return real_videos.find(folder)
    seen = [each for each in folder.rglob("*") if not _hidden(each, folder) and each.is_file()]
    if images := sorted(each for each in seen if each.suffix.lower() in IMAGES):
        return images
    clips = sum(each.suffix.lower() in VIDEOS for each in seen)
    raise UsageError(
        f"holds {clips} clips, and {chosen.name} makes images" if clips else "holds no images",
        place=str(folder),
        fix=f"give a folder of {', '.join(IMAGES)} files",
    )


def _captioned(table: Path, chosen: Card) -> Iterator[Item]:
    """The rows of a table."""
    for where, caption, entry in prompts.read_captions(table):
        yield Item(_named(table, entry, f"{table} {where}", chosen), None, caption)


def _named(table: Path, entry: Mapping[str, Any], place: str, chosen: Card) -> Path:
    """The file, or the folder of frames, that a row names."""
    given = [entry[name] for name in COLUMNS if name in entry]
    if len(given) != 1 or not isinstance(given[0], str) or not given[0].strip():
        raise UsageError(
            "names no file", place=place, fix=f"give it one column or key {' or '.join(COLUMNS)}"
        )
    name, base = given[0].strip(), Path(os.path.abspath(table.parent))
    path = Path(os.path.normpath(base / name))
    if base not in path.parents:
        raise UsageError(
            f"{name} is outside {table.parent}",
            place=place,
            fix="put the table above its files, and name them relative to it",
        )
    clips = chosen.task in CLIP_TASKS
    if not (path.is_file() or (clips and path.is_dir())):
        raise UsageError(f"{name} is not there", place=place, fix="correct it, or leave it out")
    taken = VIDEOS if clips else IMAGES
    if path.is_file() and path.suffix.lower() not in taken:
        raise UsageError(
            f"{name} is none of the {_kind(chosen)} that {chosen.name} takes",
            place=place,
            fix=f"give files in {', '.join(taken)}",
        )
    return table.parent / path.relative_to(base)


def _table(data: Path) -> Path:
    """The file that gives captions: what was named, or what is in it."""
    if not data.is_dir():
        return data
    if found := [data / name for name in TABLES if (data / name).is_file()]:
        return found[0]
    raise UsageError(
        f"has no {' or '.join(TABLES)}, which tells the captions",
        place=f"--data {data}",
        fix="write one with columns file_name and caption, or give such a table",
    )


def _kind(chosen: Card) -> str:
    return "clips" if chosen.task in CLIP_TASKS else "images"


def _seen(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if not each.name.startswith("."))


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
