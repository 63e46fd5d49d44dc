"""Remembered: what was counted of a network, kept on disk.

Counting needs the network on the meta device: seconds, most of them for importing torch and
diffusers. What comes of it depends on nothing but the source of the networks and of the counting,
on the card and on the versions of torch and diffusers. It is kept under a key of all these,

    $SKIPDIT_HOME/counts/KEY.json     {"content": ...}

so that `plan` and `report` import neither a second time. What cannot be read, or is not what was
written, is counted again.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from skipdit_cli import registry
from skipdit_cli.checkpoints import local
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import StoreError
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole

COUNT = kept.Kind("count", 2)
_PACKAGE = Path(__file__).parents[1]
_SOURCES = (
    "models/*.py",
    "profiling/*.py",
    "checkpoints/hollow.py",
    "checkpoints/hollow_parts.py",
    "checkpoints/watched.py",
    "checkpoints/scheduled.py",
    "checkpoints/untouched.py",
    "checkpoints/denoiser.py",
    "sites.py",
)


def remembered(
    card: Card, what: str, count: Callable[[], Any], *, sources: tuple[str, ...] = ()
) -> Any:
    """What is on disk, or what `count` gives, which is then kept if the disk takes it.

    Args:
        card: of the checkpoint whose network it is about.
        what: tells it from all else that is counted of this network.
        count: gives what JSON can hold.
        sources: patterns of the files, beside those of networks and counting, that it depends on.
    """
    key = _key(card, what, sources)
    path = local.home() / "counts" / f"{key}.json"
    with suppress(StoreError), kept.damaged_is_absent():
        content = kept.read_json(path, lambda record: record["content"], COUNT, of=key)
        if content is not None:
            return content
    content = count()
    with suppress(StoreError):
        write_whole(path, kept.sealed_json({"content": content}, COUNT, of=key))
    return content


def _key(card: Card, what: str, sources: tuple[str, ...] = ()) -> str:
    network = [card.family, card.variant, sorted(card.arguments.items()), card.skip]
    if card.pipeline:
        network += [local.pipeline_fingerprint(Path(card.folder), weights=False)]
    foreign = "" if card.pipeline else registry.source_hash("models", card.family)  # of others
    text = json.dumps([COUNT.version, what, network, foreign, _code(sources)], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _code(more: tuple[str, ...] = ()) -> list[str]:
    """What says which code counts: the sources, and the versions of the packages they stand on."""
    files = sorted(path for pattern in (*_SOURCES, *more) for path in _PACKAGE.glob(pattern))
    sources = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return [sources, metadata.version("torch"), metadata.version("diffusers")]
