"""What other tools made, with what it is compared with: one subject that every metric can score.

Its scores are kept as those of a run are, in place of whose key stands a digest of the content.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import Metric
from skipdit_cli.recipe.prompts import Prompts
from skipdit_cli.score import sources
from skipdit_cli.score.sources import Source
from skipdit_cli.storage.given import check

FOLDER = "outside"  # in a results folder: what is kept of them, apart from runs
DATASET = "imagenet256"  # what images are compared with where nothing is given
BY_NAME, BY_ORDER = "name", "order"
_NUMBERED = re.compile(r"-\d+$")


@dataclass(frozen=True)
class Outside:
    """Samples to be scored.

    Attributes:
        samples: what is scored.
        reference: what was named with --reference: the samples to pair with, or real ones.
        prompts: what each sample was to show; () where that is not known.
    """

    samples: Source
    reference: Path | None = None
    prompts: tuple[str, ...] = ()

    @cached_property
    def originals(self) -> Source | None:
        """The samples of the reference, none where there is no reference.

        Raises:
            UsageError: it has none.
        """
        return sources.opened(self.reference, place="--reference") if self.reference else None

    def paired(self, metric: str) -> str:
        """How each sample has its original: by name, where both have the same names, or by order.

        Raises:
            UsageError: they do not pair, or there is nothing to pair with.
        """
        if self.originals is None:
            problem = f"{metric} compares each sample with its original"
            raise UsageError(problem, fix="give the originals with --reference")
        return pairing(self.samples, self.originals)

    def key(self, metric: Metric) -> str:
        """What stands for the key of a run in the scores of a metric.

        It depends on the content of all that the metric looks at.
        """
        parts = [source.sha256 for source in self._seen(metric)]
        return _digest("outside", [*parts, *self._shown(metric)])

    def folder(self, metric: Metric) -> str:
        """The name of the folder of what is kept on the way to a score.

        It depends on the places, so that most of it counts again where a file was mended.
        """
        parts = [str(source.path.resolve()) for source in self._seen(metric)]
        name = self.samples.path.stem.strip("*.") or "samples"
        return _digest(name, [str(sources.READING), *parts, *self._shown(metric)])

    def _seen(self, metric: Metric) -> list[Source]:
        """The samples, and the originals where a metric looks at them."""
        originals = self.originals if metric.NEEDS == "pairs" else None
        return [self.samples, originals] if originals else [self.samples]

    def _shown(self, metric: Metric) -> tuple[str, ...]:
        """The prompts where a metric looks at them."""
        return self.prompts if asks(metric) else ()

    def beside(self, metric: Metric) -> str:
        """What a metric compares the samples with, for people; "" for nothing."""
        if metric.NEEDS == "pairs":
            return f"{self.reference}, by {self.paired(metric.NAME)}"
        if not metric.REFERENCE:
            return ""
        return str(self.reference or metric.REFERENCE.format(dataset=DATASET))


def _digest(name: str, parts: list[str]) -> str:
    return f"{name}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


def asks(metric: Metric) -> bool:
    """Whether a metric may look at what samples were to show."""
    return metric.NEEDS != "pairs" and not metric.EXTRACTOR


@dataclass(frozen=True)
class Prompted:
    """Samples with what they were to show."""

    source: Source
    prompts: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.source.path

    def hashes(self, n: int) -> list[str]:
        return self.source.hashes(n)

    def read(self, index: int) -> np.ndarray:
        return self.source.read(index)

    def meta(self, index: int) -> dict[str, Any]:
        return {"prompt": self.prompts[index]}

    def place(self, index: int) -> str:
        return self.source.place(index)


def taken(samples: Path, *, reference: Path | None, prompts: Prompts | None) -> Outside:
    """What the command line names.

    Raises:
        UsageError: there are no samples, or the prompts are not theirs.
    """
    source = sources.opened(samples, place="--samples")
    if reference and not sources.is_npz(reference):  # an npz may have statistics alone
        sources.opened(reference, place="--reference")
    elif reference:
        check(reference, place=f"--reference {reference}", fix="give an npz or a folder")
    return Outside(source, reference, _prompts(source, prompts) if prompts else ())


def _prompts(source: Source, prompts: Prompts) -> tuple[str, ...]:
    """The prompt of each sample: by its name where names tell, else by order.

    A name tells where the list has it, or where it is the prompt's own with a number behind it, as
    VBench calls its clips: `a person swimming in ocean-0`.
    """
    listed = dict(zip(prompts.names or (), prompts.texts, strict=bool(prompts.names)))
    texts = {unicodedata.normalize("NFC", text): text for text in prompts.texts}
    found = [listed.get(each) or texts.get(_NUMBERED.sub("", each)) for each in source.names]
    if any(found):
        if lacking := [name for name, text in zip(source.names, found, strict=True) if not text]:
            problem = f"no prompt is that of {lacking[0]} in {source.path}, as others are by name"
            raise UsageError(problem, place="--prompts", fix="give one for each")
        return tuple(filter(None, found))
    if len(prompts.texts) != len(source):
        raise UsageError(
            f"{source.path} has {len(source)} samples, and these are {len(prompts.texts)} prompts",
            place="--prompts",
            fix="give one for each, in the order of the names",
        )
    return prompts.texts


def pairing(samples: Source, originals: Source) -> str:
    """How samples and originals pair: BY_NAME or BY_ORDER.

    Raises:
        UsageError: some names have no partner, or none have and they are not as many.
    """
    if samples.clips != originals.clips:
        kinds = ("clips", "images") if samples.clips else ("images", "clips")
        problem = f"holds {kinds[0]}, and {originals.path} {kinds[1]}"
        raise UsageError(problem, place=str(samples.path), fix="give both of one kind")
    mine, theirs = set(samples.names), set(originals.names)
    if mine and mine == theirs:
        return BY_NAME
    if shared := mine & theirs:
        one, other = (samples, originals) if mine - theirs else (originals, samples)
        lacking = [name for name in one.names if name not in shared]
        more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise UsageError(
            f"has no {lacking[0]}, as {one.path} has{more}",
            place=str(other.path),
            fix="leave files of the same names in both",
        )
    if len(samples) != len(originals):
        raise UsageError(
            f"has {len(samples)} samples, and {originals.path} {len(originals)}",
            place=str(samples.path),
            fix="give as many of both, in the same order or of the same names",
        )
    return BY_ORDER
