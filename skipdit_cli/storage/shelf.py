"""The shelf: what is in a results folder, run by run, whatever code made it.

A `Run` is what the code that is installed now would make. A run on the shelf is what its files say
of it: it can be looked at, removed and given away also where that code has changed, where it was
timed and never sampled, or where nothing but scores is left of it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from skipdit_cli import registry
from skipdit_cli.cache import NONE, CacheSpec
from skipdit_cli.errors import UsageError
from skipdit_cli.spec import parse_cache
from skipdit_cli.storage import kept, lock, results
from skipdit_cli.storage.disk import on_disk
from skipdit_cli.storage.removal import PLACES
from skipdit_cli.storage.results import Result
from skipdit_cli.storage.store import Store, read_run
from skipdit_cli.storage.trajectory import FILE as TRAJECTORY

if TYPE_CHECKING:
    from skipdit_cli.run import Run

SHORT = 8  # characters of a key that tables show
SIZES = ("samples", "previews", "trajectory", "features", "scores", "records")
_OWN = ("cache", "num_samples", "names", "versions")  # in which a run may differ from its reference
_OF_CACHE = ("cache", "diffusers")  # those of its versions


@dataclass(frozen=True)
class Shelved:
    """One run on disk.

    Attributes:
        root: the results folder.
        key: of the run, or `npz-...` of images that were scored.
        made: its settings, as `Run.to_dict` gives them; {} where no description is left.
        provenance: what made its first sample; {} where that is not known.
    """

    root: Path
    key: str
    made: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """The key as tables show it."""
        return self.key[:SHORT]

    @property
    def model(self) -> str:
        """The model's name, "" where it is not known."""
        return str(self.made.get("model", ""))

    @cached_property
    def spec(self) -> CacheSpec | None:
        """The cache, None where it is not known, or by the code that is installed now."""
        try:
            return parse_cache(self.made["cache"])
        except (KeyError, UsageError):
            return None

    @property
    def cache(self) -> str:
        """The cache's spec without what a calibration found."""
        return self.spec.short if self.spec else str(self.made.get("cache", ""))

    @property
    def wanted(self) -> int | None:
        """How many samples it is to have; None where that is not known."""
        return self.made.get("num_samples")

    def seed(self, index: int) -> int | None:
        """The seed of a sample; None where it is not known."""
        seeds = self.made.get("seeds")
        return seeds[index % len(seeds)] if seeds else self.made.get("seed")

    @cached_property
    def store(self) -> Store:
        """Its samples, to be read."""
        # reading asks of a run no more than its key
        return Store(self.root / "samples" / self.key, cast("Run", self))

    @cached_property
    def there(self) -> list[int]:
        """The indices of the samples that are in the journal and whose files are there."""
        store = self.store
        return sorted(index for index in store.entered() if store.file(index).is_file())

    @cached_property
    def results(self) -> dict[str, Result]:
        """Its scores and timings, by metric."""
        paths = sorted((self.root / "scores" / self.key).glob("*.json"))
        read = (results.read_result(self.root, self.key, path.stem) for path in paths)
        return {result.metric: result for result in read if result}

    @cached_property
    def beside(self) -> list[Result]:
        """Of an uncached run: its scores against uncached runs of more steps."""
        return results.all_besides(self.root, self.key)

    @property
    def numbers(self) -> list[Result]:
        """Its scores and timings, against whichever run."""
        return [*self.results.values(), *self.beside]

    @property
    def scored(self) -> list[str]:
        """The metrics and timings that it has, against whichever run."""
        return list(dict.fromkeys(each.metric for each in self.numbers))

    @property
    def failed(self) -> list[str]:
        """Of what it is kept why it failed: "samples", "timing" or a metric."""
        return sorted(path.stem for path in (self.root / "failures" / self.key).glob("*.json"))

    @property
    def time(self) -> datetime:
        """When it was begun; where that is not known, when it was last written to."""
        if told := self.provenance.get("time"):
            return datetime.fromisoformat(told)
        last = max((path.stat().st_mtime for path in self._files()), default=0)
        return datetime.fromtimestamp(last, UTC)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes on disk, by SIZES."""
        sizes = dict.fromkeys(SIZES, 0)
        with on_disk(self.root):
            for path in self._files():
                sizes[_kind(path.relative_to(self.root))] += path.stat().st_size
        return sizes

    @property
    def content(self) -> dict[str, Any]:
        """What it is and how much of it is there, for programs."""
        return {
            "key": self.key,
            "cache": self.cache,
            "samples": len(self.there),
            "time": self.time.isoformat(timespec="seconds"),
            "scored": self.scored,
            "failed": self.failed,
            "run": dict(self.made),
        }

    def _files(self) -> Iterator[Path]:
        for place in PLACES:
            yield from (p for p in (self.root / place / self.key).rglob("*") if p.is_file())

    def compares_with(self, other: "Shelved") -> bool:
        """Whether another run is its reference: uncached, and of an uncached one of more steps."""
        if self.key == other.key:
            return False
        if any(result.reference == other.key for result in self.numbers):
            return True
        paired = other.cache == NONE != self.cache
        return paired and bool(self.made) and _subject(self) == _subject(other)


def shelf(root: Path) -> list[Shelved]:
    """All that is there of runs, the oldest first.

    Raises:
        StoreError: the folder cannot be read.
    """
    with on_disk(root):
        folders = [path for place in PLACES for path in (root / place).glob("*") if path.is_dir()]
        keys = {path.name for path in folders if _holds(path)}
    runs = []
    for key in keys:
        known: dict[str, Any] = {}
        with kept.damaged_is_absent():
            known = read_run(root, key)
        runs.append(Shelved(root, key, known.get("run", {}), known.get("provenance", {})))
    return sorted(runs, key=lambda run: (run.time, run.key))


def of_cache(text: str, runs: Iterable[Shelved], *, place: str = "") -> list[Shelved]:
    """The runs of a caching method that have the settings of a spec; others may be any.

    Raises:
        UsageError: the spec cannot be read.
    """
    asked, named = parse_cache(text, place=place), set(re.findall(r"(\w+)\s*=", text))
    given = {name: value for name, value in vars(asked.config).items() if name in named}
    return [
        run
        for run in runs
        if run.spec
        and run.spec.name == asked.name
        and given.items() <= vars(run.spec.config).items()
    ]


def find(target: str, runs: Iterable[Shelved]) -> list[Shelved]:
    """The runs that a key, the beginning of one, or a cache spec names.

    Raises:
        UsageError: the spec cannot be read.
    """
    if "(" in target or registry.known("caches", target):
        return of_cache(target, runs)
    return [run for run in runs if run.key.startswith(target)]


def one(target: str, runs: Iterable[Shelved], *, place: str) -> Shelved:
    """The one run that a key, the beginning of one, or a cache spec names.

    Of several uncached runs it is the one that others are compared with.

    Raises:
        UsageError: there is none, or there are several.
    """
    runs = list(runs)
    found = find(target, runs)
    if len(found) > 1:
        found = [run for run in found if compared_with(run, runs)] or found
    if len(found) == 1:
        return found[0]
    near = found or runs
    names = ", ".join(f"{run.short} ({run.model} {run.cache})" for run in near[:5])
    more = ", ..." if len(near) > 5 else ""
    raise UsageError(
        f"{target} is ambiguous" if found else f"no run of {target} is here",
        place=place,
        fix=f"name one of {names}{more}" if names else "there are no runs here yet",
    )


def compared_with(reference: Shelved, runs: Iterable[Shelved]) -> list[Shelved]:
    """Those of some runs whose uncached reference a run is."""
    return [run for run in runs if run.compares_with(reference)]


def _subject(run: Shelved) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run is of, without its cache."""
    versions = run.made.get("versions", {}).items()
    settings = {name: value for name, value in run.made.items() if name not in _OWN}
    return settings, {name: value for name, value in versions if name not in _OF_CACHE}


def _holds(folder: Path) -> bool:
    """Whether a folder holds more than the lock of a run that is gone."""
    return any(path.name not in lock.FILES for path in folder.iterdir())


def _kind(path: Path) -> str:
    """What a file of a run is, of SIZES; its path begins at the results folder."""
    place, _, *inside = path.parts
    if place != "samples":
        return "features" if place == "npz" else "scores"
    if inside[0] in ("previews", "features"):
        return inside[0]
    if inside[0] == TRAJECTORY:
        return "trajectory"
    return "samples" if path.suffix in (".png", ".mkv") else "records"
