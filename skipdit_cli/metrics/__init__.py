"""One file per metric, and the contract that each of them keeps.

A metric's file holds constants and one function that scores; `Metric` below says which are required
and what the others are if they are left out. Which function it is depends on `NEEDS`:

    "pairs"      score(reference, sample)    each sample with its uncached reference
    "each"       score(sample, meta)         each sample with what it was to show
    "set"        score_set(samples, metas)   all samples of a run together, which are read only once
    "prompted"   score_prompts(samples, ...) the clips of a list of prompts, scored elsewhere

A sample is a uint8 array: an image [H,W,3] or a clip [T,H,W,3], RGB. A meta is what a sample was to
show: {"class": 3} or {"prompt": "..."}.

A metric that looks through a network has it in `ASSETS` and builds it in `load`; what that returns
is handed to `score` as a third argument. A metric of a set has an `EXTRACTOR` instead: its features
are kept beside the samples, and `score_set(features, reference)` gets them in chunks, beside the
`Reference` that `REFERENCE` names. Everything that has to be downloaded is an `Asset` in the file
of the metric, or in the shared file of those that look through the same network: `skipdit download
--metrics`, `skipdit doctor` and the errors for what is not here know of it from there alone.

A metric may also be a folder, `NAME/__init__.py`, with the other files that it is made of. What
several metrics share is in files that start with `_`. `fid@coco` is in `fid_at_coco.py`: `@` leads
to the protocol where a metric has several. A name that ends in the name of data, as in `@digits`,
is for models of these data alone (`data_of`). Module-level code stays light: torch and the networks
are imported where they are used.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from skipdit_cli.contract import Registered
from skipdit_cli.errors import UsageError

Features = Mapping[str, np.ndarray]  # by name, [N,...] of the N samples of a chunk
Extract = Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]
Meta = Mapping[str, Any]  # {"class": 3} or {"prompt": "..."}
Moments = tuple[np.ndarray, np.ndarray]  # mean [d], covariance [d,d]


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file or hub repository that a metric needs, or a list of prompts, and that does not ship
    with the package.

    Attributes:
        name: as in `skipdit download --metrics NAME`.
        what: what it is, in a few words.
        source: an address (https://, http://, or file:/// for a file on this machine), or a hub
            repository OWNER/NAME.
        size: bytes of the download; of a hub repository about.
        licence: as the source states it. Some have to be accepted before anything is fetched.
        file: the name of the file here; "" for a hub repository, which is a folder.
        digest: sha256 of the file; "" for a hub repository, whose listing has those of its files.
        runs_code: loading it runs what is in it, so its hash is compared whenever it is used.
        holds: what a hub repository must have besides its files of configuration and weights: the
            names of files, and "tokenizer" for a vocabulary.
        folder: of SKIPDIT_HOME, where it goes.
    """

    name: str
    what: str
    source: str
    size: int
    licence: str
    file: str = ""
    digest: str = ""
    runs_code: bool = False
    holds: tuple[str, ...] = ()
    folder: str = "metrics"

    def __post_init__(self) -> None:
        at_address = re.match(r"(https?|file)://", self.source) is not None
        if at_address and not (self.file and re.fullmatch(r"[0-9a-f]{64}", self.digest)):
            wrong = (
                "is at an address, so it needs the name of its `file` and its sha256 in `digest`"
            )
        elif not at_address and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.source):
            wrong = f"has the source {self.source!r}, which is neither an address nor OWNER/NAME"
        elif not at_address and (self.file or self.digest):
            wrong = "is a hub repository, which has neither `file` nor `digest`"
        elif self.size <= 0 or not self.licence or not re.fullmatch(r"[\w@.-]+", self.name):
            wrong = "needs a name without spaces, a size in bytes and a licence"
        else:
            return
        raise UsageError(f"the asset {self.name!r} {wrong}", fix="see skipdit_cli.metrics.Asset")


@dataclass(frozen=True)
class Extractor:
    """A network that describes samples by features.

    Attributes:
        name: of the folder in which its features are kept, with the version.
        version: goes up when the features change.
        assets: what must be downloaded for it.
        load: (paths of the assets by name, device) -> a function from samples to their features.
        values: how many float32 numbers are kept of a sample, as far as is known; by_frame: of
            every frame of it.
        any_size: whether samples of several sizes may be looked at together.
    """

    name: str
    version: int
    assets: tuple[Asset, ...]
    load: Callable[[Mapping[str, Path], str], Extract]
    values: int = 0
    by_frame: bool = False
    any_size: bool = False


class Reference(Protocol):
    """Real samples, as the extractor of a metric sees them."""

    def moments(self, feature: str, *, ddof: int) -> Moments:
        """Mean [d] and covariance [d,d] of a feature."""

    def features(self) -> Iterator[Features]:
        """The features in chunks; where only statistics are known, a UsageError."""


class Metric(Registered, Protocol):
    """What a metric's file holds.

    Attributes:
        NAME: as on the command line.
        LABEL: as in a table.
        UNIT: what it is counted in, "" for a bare number.
        BETTER: "higher" or "lower".
        NEEDS: "pairs", "each", "set" or "prompted".
        TASKS: the tasks ("c2i", "c2v", "t2v", "t2i") whose samples it can score.
        VERSION: goes up whenever the same samples would score differently, be it by the formula,
            the network or its reference statistics.
        PROTOCOL: whose definition this is; numbers of two protocols share no column.
        SMALLEST: the least height and width of a sample, in pixels.
        FRAMES: the least number of frames; 1 takes images too.
        PARTS: what can be asked for as `NAME.PART`.
        ANY_PROMPT: which of these parts fits samples of any prompt.
        ASSETS: what `load` needs; a metric with an EXTRACTOR has its assets there.
        EXTRACTOR: of a metric of a set: the network whose features it is made of.
        REFERENCE: the real samples that these are compared with: the name of one of REFERENCES, or
            "DATASET/PROTOCOL" of real clips that are made of a user's own copy of the data;
            "{dataset}" in it stands for what the model was trained on.
        REFERENCES: the real samples that can be downloaded.
        load: (paths of ASSETS by name, device) -> the network; there where ASSETS are.
        average: the mean of scores [N], if it is not their plain mean. It may depend on the order
            of the samples, so that no interval is given.
    """

    NAME: str
    LABEL: str
    UNIT: str
    BETTER: str
    NEEDS: str
    TASKS: tuple[str, ...]
    VERSION: int
    PROTOCOL: str

    SMALLEST: int = 1
    FRAMES: int = 1
    PARTS: tuple[str, ...] = ()
    ANY_PROMPT: tuple[str, ...] = ()
    ASSETS: tuple[Asset, ...] = ()
    EXTRACTOR: Extractor | None = None
    REFERENCE: str = ""
    REFERENCES: tuple[Asset, ...] = ()
    load: Callable[[Mapping[str, Path], str], Any] | None = None
    average: Callable[[np.ndarray], float] | None = None

    @property
    def score(self) -> Callable[..., float]:
        """The score of one sample; its arguments depend on NEEDS and ASSETS."""

    @property
    def score_set(self) -> Callable[..., float]:
        """The score of all samples; its arguments depend on EXTRACTOR."""

    def score_prompts(
        self,
        samples: Sequence[tuple[str, Path]],
        *,
        part: str,
        folder: Path,
        device: str,
        progress: Callable[[int, int], None],
        hashes: Sequence[str],
    ) -> float:
        """The score of prompts and files, in the order of the samples.

        Args:
            samples: prompt and file of each sample.
            part: which of PARTS was asked for, or "".
            folder: of this run alone, for what is to be kept.
            device: "cpu", "cuda", or one of several GPUs, as "cuda:1".
            progress: to be called with samples done and samples in all.
            hashes: the sha256 of every file.
        """
        raise NotImplementedError

    def lacking(
        self,
        samples: Sequence[tuple[str, Path]],
        *,
        part: str,
        folder: Path,
        hashes: Sequence[str],
    ) -> list[str]:
        """Which of PARTS `score_prompts` has still to score for one of them, to be spread.

        Each of them is then a part that is asked for by itself, in any process and in this order;
        what it finds is kept in the folder. By default none: all is done at once.
        """
        return []

    def protocol(self, prompts: Iterable[str]) -> str:
        """PROTOCOL, where it depends on the prompts that were asked for."""
        return self.PROTOCOL

    def environment(self) -> Path | None:
        """The Python of the metric's own environment; None if it needs none.

        Raises:
            MissingAssetError: it is not here.
        """
        return None

    @staticmethod
    def rules(module: ModuleType) -> str:
        """How the parts of a file contradict one another, or ""."""
        return _contradiction(module)


TASKS = ("c2i", "c2v", "t2v", "t2i")
FUNCTIONS = {  # by NEEDS: what scores, and what it is called with
    "pairs": ("score", ("reference", "sample")),
    "each": ("score", ("sample", "meta")),
    "set": ("score_set", ("samples", "metas")),
    "prompted": ("score_prompts", ("samples", "part", "folder", "device", "progress", "hashes")),
}


def _contradiction(module: ModuleType) -> str:
    needs, better, tasks = module.NEEDS, module.BETTER, module.TASKS
    assets, extractor = getattr(module, "ASSETS", ()), getattr(module, "EXTRACTOR", None)
    reference = getattr(module, "REFERENCE", "")
    if needs not in FUNCTIONS:
        return f"NEEDS is one of {_listed(FUNCTIONS)}, not {needs!r}"
    if better not in ("higher", "lower"):
        return f"BETTER is 'higher' or 'lower', not {better!r}"
    if isinstance(tasks, str) or not tasks or not set(tasks) <= set(TASKS):
        return f"TASKS is a tuple of {_listed(TASKS)}, not {tasks!r}"
    if extractor and needs != "set":
        return f"an EXTRACTOR is for NEEDS = 'set', not {needs!r}"
    if assets and needs not in ("pairs", "each"):
        return f"ASSETS are for NEEDS = 'pairs' and 'each', not {needs!r}"
    if bool(assets) != hasattr(module, "load"):
        return "ASSETS and load(assets, device) come together, and one of them is lacking"
    if reference and not extractor:
        return "a REFERENCE is seen through an EXTRACTOR, and there is none"
    if "{" in reference.replace("{dataset}", ""):
        return f"REFERENCE = {reference!r} has another field than {{dataset}}"
    name, arguments = FUNCTIONS[needs]
    if extractor:
        arguments = ("features", "reference")
    elif assets:
        arguments = (*arguments, "network")
    if not _takes(getattr(module, name, None), arguments, checked=needs == "prompted"):
        return f"NEEDS is {needs!r}, so there has to be {name}({', '.join(arguments)})"
    return ""


def _takes(function: Any, arguments: Sequence[str], *, checked: bool) -> bool:
    """Whether something is a function of so many arguments, if that was not checked already."""
    if not callable(function):
        return False
    try:
        return checked or bool(inspect.signature(function).bind(*arguments))
    except TypeError:
        return False
    except ValueError:  # a builtin says nothing of its arguments
        return True


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
