"""Prompt lists: those that ship in recipes/data, the COCO captions once they are here, any file."""

import json
import os
from pathlib import Path

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, UsageError, unknown
from skipdit_cli.storage import given

DOWNLOADED = "coco"
_SUFFIXES = (".jsonl", ".txt")


def names() -> list[str]:
    """The lists known by name, whether or not they are here."""
    return sorted([DOWNLOADED, *(path.stem for path in _shipped())])


def read_prompts(name_or_path: str, *, place: str = "") -> tuple[str, ...]:
    """The prompts of a list, in the order of the file.

    Args:
        name_or_path: one of `names()`, or a file in UTF-8: text with one prompt per line, where
            blank lines and lines that start with # are not prompts, or .jsonl as vbench.jsonl is,
            where a prompt may have several entries and counts once.
        place: what errors name.
    Raises:
        UsageError: no such list, or a file that cannot be read or holds no prompt.
        MissingAssetError: the list must be downloaded first.
    """
    path = _find(name_or_path, place=place)
    shown, fix = f"prompt file {path}", f"give a text file, or one of {', '.join(names())}"
    text = given.read_text(path, place=f"{place}: {shown}".removeprefix(": "), fix=fix)
    lines = [line.strip() for line in text.split("\n")]
    try:
        if path.suffix == ".jsonl":
            entries = [json.loads(line)["prompt_en"].strip() for line in lines if line]
            lines = list(dict.fromkeys(entries))
    except (ValueError, LookupError, TypeError, AttributeError):
        problem = f'{shown} has a line that is not {{"prompt_en": "...", ...}}'
        raise UsageError(
            problem, place=place, fix="write lines like those of recipes/data/vbench.jsonl"
        ) from None
    prompts = tuple(line for line in lines if line and not line.startswith("#"))
    if not prompts:
        raise UsageError(f"{shown} has no prompt", place=place, fix="write one prompt per line")
    return prompts


def _find(name_or_path: str, *, place: str) -> Path:
    from skipdit_cli.checkpoints import local

    if name_or_path == DOWNLOADED:
        path = local.home() / "prompts" / f"{DOWNLOADED}.txt"
        if not path.is_file():
            raise MissingAssetError(
                "the COCO captions are not here",
                place=place,
                fix=f"run `skipdit download {DOWNLOADED}`, or give a file of prompts",
            )
        return path
    for path in _shipped():
        if path.stem == name_or_path:
            return path
    path = Path(name_or_path)
    if path.suffix or len(path.parts) > 1 or os.path.exists(name_or_path):
        return path
    raise unknown("prompt list", name_or_path, names(), place=place)


def _shipped() -> list[Path]:
    return [path for path in (shipped.recipes() / "data").iterdir() if path.suffix in _SUFFIXES]
