"""What metrics see samples through, and the real samples that they compare them with.

imagenet256      ADM's reference batch: statistics of all training images, and 10,000 images
coco-val2014     the images that the prompt list `coco` describes
ffs/released     statistics of real clips, which `skipdit download --metrics ffs --from FOLDER`
                 makes of a user's own copy of the data (`real_clips.py`)
FILE.npz         statistics, images or both, named as in ADM's reference batches
FOLDER           images or clips, as `sources.py` takes them
"""

import hashlib
import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from skipdit_cli.assets import assets, clips, coco
from skipdit_cli.checkpoints import local
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.metrics import Asset, Extract, Metric, Moments, Reference, _frechet
from skipdit_cli.score import features, real_clips, sources
from skipdit_cli.storage import kept, npz
from skipdit_cli.storage.given import decoding

NOT_KNOWN = "{} compares with real samples, and which ones is not known"  # of a metric
ADM = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}  # feature -> arrays of the npz
COCO = "coco-val2014"
CHUNK, CLIPS_CHUNK = 64, 16  # images or clips that are looked at together


def network(metric: Metric, device: str) -> Any:
    """What a metric looks through, on a device; None if it looks through nothing.

    Raises:
        MissingAssetError: it is not here.
    """
    load = metric.EXTRACTOR.load if metric.EXTRACTOR else metric.load
    if load is None:
        return None
    return load({each.name: assets.require(each) for each in assets.networks(metric)}, device)


def kept_as(metric: Metric) -> str:
    """The folder of a metric's features or scores: another one whenever they would differ."""
    needed = assets.networks(metric)
    seen = hashlib.sha256(":".join(map(assets.fingerprint, needed)).encode()).hexdigest()[:8]
    if metric.EXTRACTOR:
        return f"{metric.EXTRACTOR.name}-{metric.EXTRACTOR.version}-{seen}"
    return f"{metric.NAME}-{metric.VERSION}" + (f"-{seen}" if needed else "")


def identities(metric: Metric, dataset: str, *, given: Path | None) -> dict[str, str]:
    """What a metric depends on besides the samples: a hash of each, by name.

    Args:
        dataset: what the samples are compared with.
        given: an npz, or files, instead of the metric's own reference.

    Raises:
        MissingAssetError: something is not here.
    """
    hashes = {}
    for asset in assets.networks(metric):
        assets.require(asset)
        hashes[asset.name] = assets.fingerprint(asset)
    if place := _file(metric, dataset, given=given):
        name, path = place
        own = None if given else _own(metric, name)
        hashes[name] = assets.fingerprint(own) if own else _sha256(path, given=given)[:16]
    return hashes


def of(
    metric: Metric,
    dataset: str,
    *,
    given: Path | None,
    extract: Extract,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Reference | None:
    """The reference of a metric, seen through its extractor; None for a metric without.

    Args:
        dataset: what the samples are compared with.
        given: an npz, or files, instead of the metric's own reference.
        extract: from images to their features, by the metric's extractor.
        workers: threads that read images.
        progress: called with images done and images in all.

    Raises:
        MissingAssetError: it is not here.
    """
    place = _file(metric, dataset, given=given)
    if place is None:
        return None
    name, path = place
    if given is None and name.partition("/")[0] in real_clips.DATASETS:
        return Clips(path)
    kept_under = f"{path.stem}-{_sha256(path, given=given)[:8]}" if given else path.stem
    kind: Callable[..., Images] = partial(ReferenceBatch, metric=metric)
    if given is None and name == COCO:
        kind = partial(Coco, archive=identities(metric, dataset, given=None)[name])
    return kind(
        path=path,
        extract=extract,
        folder=local.home() / "metrics" / "features" / kept_under / kept_as(metric),
        workers=workers,
        progress=progress,
    )


def _sha256(path: Path, *, given: Path | None) -> str:
    return sources.sha256(path) if given else local.sha256(path)


def _own(metric: Metric, name: str) -> Asset | None:
    """The reference of a name among those that a metric declares."""
    return next((each for each in metric.REFERENCES if each.name == name), None)


def _file(metric: Metric, dataset: str, *, given: Path | None) -> tuple[str, Path] | None:
    """What a metric's reference is called, and where it is."""
    if not metric.REFERENCE:
        return None
    if given is not None:
        return given.name or given.resolve().name, given
    name = metric.REFERENCE.format(dataset=dataset)
    if name.partition("/")[0] in real_clips.DATASETS:
        return name, real_clips.path(name)
    if own := _own(metric, name):
        return name, assets.require(own)
    problem = f"there is no reference of {dataset} for {metric.NAME}"
    if not dataset:
        problem = NOT_KNOWN.format(metric.NAME)
    raise MissingAssetError(
        problem,
        fix=f"give them to `skipdit evaluate RUN --metrics {metric.NAME} --reference PLACE`, a "
        "folder or an npz",
    )


@dataclass(kw_only=True)
class Images(ABC):
    """Real images, seen through one extractor; what it finds in them is kept.

    Attributes:
        path: the file that they are in.
        extract: from images to their features.
        folder: where these are kept.
        workers: threads that read images.
        progress: called with images done and images in all.
    """

    path: Path
    extract: Extract
    folder: Path
    workers: int = 1
    progress: Callable[[int, int], None] | None = None

    @abstractmethod
    def hashes(self) -> list[str]:
        """What tells every image from others."""

    @abstractmethod
    def read(self, index: int) -> np.ndarray:
        """An image, uint8 [H,W,3], or a clip, uint8 [T,H,W,3]."""

    @property
    def chunk(self) -> int:
        """How many are looked at together."""
        return CHUNK

    def check(self, part: range, images: list[np.ndarray]) -> None:  # noqa: B027
        """Raise a UsageError where images cannot be looked at together."""

    def moments(self, feature: str, *, ddof: int) -> Moments:
        """Mean [d] and covariance [d,d] of a feature."""
        return _frechet.moments_of(self.features(), feature, ddof=ddof)

    def features(self) -> Iterator[dict[str, np.ndarray]]:
        """The features of all images, in chunks that are kept."""
        hashes = self.hashes()

        def compute(part: range, images: list[np.ndarray]) -> dict[str, np.ndarray]:
            self.check(part, images)
            extracted = self.extract(images)
            if self.progress:
                self.progress(part.stop, len(hashes))
            return extracted

        return features.chunks(
            self.folder,
            inputs=hashes,
            size=self.chunk,
            read=self.read,
            compute=compute,
            workers=self.workers,
            progress=self.progress,
        )


@dataclass(kw_only=True)
class ReferenceBatch(Images):
    """Images or clips that were given, or an npz as the ADM evaluator takes it.

    That has images, statistics of them or of others, or both.

    Attributes:
        metric: what they are looked at for.
    """

    metric: Metric

    @cached_property
    def samples(self) -> sources.Source:
        """The images, hashed and opened when they are asked for.

        Raises:
            UsageError: there are none, or they are clips where images are wanted.
        """
        found = sources.opened(self.path, place="--reference")
        if not sources.takes(self.metric, clips=found.clips):
            has, wants = ("clips", "images") if found.clips else ("images", "clips")
            problem = f"has {has}, and {self.metric.NAME} compares {wants}"
            raise UsageError(problem, place=str(self.path), fix=f"give {wants}")
        return found

    @property
    def chunk(self) -> int:
        return CLIPS_CHUNK if self.samples.clips else CHUNK

    def hashes(self) -> list[str]:
        return self.samples.hashes(len(self.samples))

    def read(self, index: int) -> np.ndarray:
        return self.samples.read(index)

    def check(self, part: range, images: list[np.ndarray]) -> None:
        if self.metric.EXTRACTOR and not self.metric.EXTRACTOR.any_size:
            features.require_one_size(part, images, self.samples)

    def moments(self, feature: str, *, ddof: int) -> Moments:
        """The statistics in an npz as they are, or else those of the images."""
        known = None
        if feature in ADM and sources.is_npz(self.path):
            known = npz.statistics(self.path, *ADM[feature])
        return super().moments(feature, ddof=ddof) if known is None else known


def _image_ids(origin: dict[str, Any]) -> list[int]:
    return [int(identity) for identity in origin["image_ids"]]


@dataclass(kw_only=True)  # for `__post_init__`
class Coco(Images):
    """The images of val2014 whose captions the list `coco` has, out of COCO's own archive.

    Attributes:
        archive: what tells this archive from others.

    Raises:
        MissingAssetError: the list is not here.
    """

    archive: str

    def __post_init__(self) -> None:
        from skipdit_cli.checkpoints.inventory import coco_list

        path, ids = coco_list().with_suffix(".json"), None
        with kept.damaged_is_absent():
            ids = kept.read_json(path, _image_ids, coco.IMAGES, of=coco_list().stem)
        if ids is None:
            raise MissingAssetError(
                "which of COCO's images the prompts describe is not known here",
                fix="run `skipdit download coco`",
            )
        self.ids = ids

    def hashes(self) -> list[str]:
        return [f"{self.archive}/{identity}" for identity in self.ids]

    def read(self, index: int) -> np.ndarray:
        from PIL import Image

        name = f"val2014/COCO_val2014_{self.ids[index]:012d}.jpg"
        with decoding(str(self.path), f"has no readable {name}"):
            with zipfile.ZipFile(self.path) as archive:
                data = archive.read(name)
            return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


@dataclass(frozen=True)
class Clips:
    """Statistics of real clips, as `real_clips.prepare` leaves them; the clips are not kept."""

    path: Path

    def moments(self, feature: str, *, ddof: int) -> Moments:
        """Mean [d] and covariance [d,d] of a feature.

        Raises:
            UsageError: they are asked for with another ddof than the file's, which is 0.
            MissingAssetError: the file has none of this feature.
        """
        if ddof != real_clips.DDOF:
            raise UsageError(
                f"has covariances with ddof {real_clips.DDOF}, not {ddof}", place=str(self.path)
            )
        names = (f"{feature}_mean", f"{feature}_covariance")
        moments = npz.statistics(self.path, *names)
        if moments is None:
            raise MissingAssetError(
                f"has no {names[0]}",
                place=str(self.path),
                fix=f"delete it and run `{clips.fetching(self.path.parent.name)}`",
            )
        return moments

    def features(self) -> Iterator[dict[str, np.ndarray]]:
        raise UsageError("has statistics of real clips, not their features", place=str(self.path))
