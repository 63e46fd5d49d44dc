"""Real clips for FVD and FID over frames: how a dataset's videos become the reference.

`skipdit download --metrics ffs` fetches the data set where the hub has it; any other copy is taken
by `--metrics ucf101 --from FOLDER`. FOLDER holds videos, or folders of frames, at any depth. Which
frames of them count is a protocol, and FVD depends on it:

    released   the tools that came with the models: the first 17 frames of each video, so that a
               clip of 16 begins with the first or the second
    latte      Latte's own evaluation: 16 frames, every third (of Taichi every sixth), from anywhere

FVD sees a clip of each of 2,048 videos; FID over frames sees what `released` takes, of all videos.
How frames are chosen and brought to one size is in `real_videos.py`.

Source: Skip-DiT class-to-video/tools; Latte tools; StyleGAN-V for both.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np

from skipdit_cli.assets import assets, clips
from skipdit_cli.checkpoints import local
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.metrics import Asset, Extract, _frechet, _i3d, _inception
from skipdit_cli.precision import products
from skipdit_cli.score import features
from skipdit_cli.score.real_videos import Preparation, chosen, clip, find, first_frames
from skipdit_cli.storage import kept, provenance
from skipdit_cli.storage.disk import DamagedError, write_whole

CHUNK = 8  # videos
RECORD = kept.Kind("record of real clips", 2)
READING = 2  # goes up when frames are read in another way: what was seen in them is made again
DDOF = 0  # of the covariances, as in StyleGAN-V


@dataclass(frozen=True)
class Dataset:
    """A dataset of real videos.

    Attributes:
        what: its name, and where it is to be had unless the hub has it.
        preparations: by protocol.
    """

    what: str
    preparations: Mapping[str, Preparation]


def _dataset(what: str, *, latte: int = 3) -> Dataset:
    released = Preparation(interval=1, first=17)
    return Dataset(
        what, MappingProxyType({"released": released, "latte": Preparation(interval=latte)})
    )


DATASETS: Mapping[str, Dataset] = MappingProxyType(
    {
        "ffs": _dataset("FaceForensics, training split"),
        "skytimelapse": _dataset("SkyTimelapse, training split"),
        "taichi": _dataset("Taichi-HD, training split", latte=6),
        "ucf101": _dataset("UCF101, training split; https://www.crcv.ucf.edu/data/UCF101.php"),
    }
)


def asked_for(names: Sequence[str], folder: Path | None, *, alone: bool) -> list[str]:
    """The datasets among what metrics need.

    Args:
        names: of what metrics need.
        folder: the user's own copy, or None.
        alone: whether nothing else is asked for.
    Raises:
        UsageError: a folder is given for several things, or none for what the hub does not have.
    """
    datasets = [name for name in dict.fromkeys(names) if name in DATASETS]
    if folder is not None and datasets and not (alone and len(names) == 1):
        raise UsageError(
            "a folder is the copy of one data set", place="--from", fix="ask for that alone"
        )
    own = [name for name in datasets if name not in clips.ON_HUB]
    if own and folder is None:
        raise UsageError(
            f"the real clips of {own[0]} are made of your own copy of it ({DATASETS[own[0]].what})",
            place="--metrics",
            fix=f"run `{clips.fetching(own[0])}`",
        )
    return datasets


def networks(datasets: Sequence[str]) -> tuple[Asset, ...]:
    """What has to be here to prepare datasets."""
    return (*_i3d.EXTRACTOR.assets, *_inception.FRAMES.assets) if datasets else ()


def prepared(dataset: str) -> dict[str, Path | UsageError]:
    """The statistics of a dataset that are here, by protocol; {} unless those of `released` are."""
    here: dict[str, Path | UsageError] = {}
    for protocol in DATASETS[dataset].preparations:
        if _sound(dataset, protocol):
            here[protocol] = _statistics(dataset, protocol)
    return here if "released" in here else {}


def _statistics(dataset: str, protocol: str) -> Path:
    return local.home() / "metrics" / dataset / f"{protocol}.npz"


def _sound(dataset: str, protocol: str) -> bool:
    """Whether statistics are here as they were written; those that are not are told of."""
    statistics = _statistics(dataset, protocol)
    if not statistics.is_file():
        return False
    with kept.damaged_is_absent():
        of = f"{dataset}/{protocol}"
        record = kept.read_json(statistics.with_suffix(".json"), dict, RECORD, of=of) or {}
        if record.get("reading", READING) != READING:
            raise DamagedError("are of frames that were read otherwise", place=str(statistics))
        return kept.unchanged(statistics, record.get("sha256"), RECORD)
    return False


def path(name: str) -> Path:
    """Where the statistics of "ffs/released" are, or will be.

    Raises:
        MissingAssetError: they are not here.
    """
    dataset, _, protocol = name.partition("/")
    if not _sound(dataset, protocol):
        raise MissingAssetError(
            f"the real clips of {dataset} are not prepared ({DATASETS[dataset].what})",
            fix=f"run `{clips.fetching(dataset)}`"
            + (", or give your own copy with --from FOLDER" if dataset in clips.ON_HUB else ""),
        )
    return _statistics(dataset, protocol)


def prepare(
    dataset: str,
    folder: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Path | UsageError]:
    """Statistics of I3D logits and Inception features of a dataset, one file per protocol.

    What was computed before is kept, so that it resumes.

    Returns:
        By protocol, the file, or why there is none: too few videos are long enough.
    Raises:
        UsageError: there are no videos, or none of the protocols has enough.
        MissingAssetError: a network is not here.
    """
    needed = networks([dataset])
    files = {asset.name: assets.require(asset) for asset in needed}
    logits, pool = _i3d.EXTRACTOR.load(files, device), _inception.FRAMES.load(files, device)
    videos = find(folder)
    made: dict[str, Path | UsageError] = {}
    for protocol, how in DATASETS[dataset].preparations.items():
        try:
            taken = chosen(videos, how, place=str(folder))
        except UsageError as error:
            made[protocol] = error
            continue
        target = _statistics(dataset, protocol)
        label = f"real clips of {dataset}, {protocol}"
        see = partial(
            _features,
            how,
            folder=folder,
            pool=pool if how.first is not None else None,
            workers=workers,
            progress=partial(progress or (lambda what, done, total: None), label),
        )
        parts = [see(taken, kept=target.with_suffix(""), logits=logits)]
        if how.first is not None:  # of the others the frames alone count, for FID over frames
            others = sorted(set(videos) - set(taken))
            parts.append(see(others, kept=target.with_name(f"{protocol}-others"), logits=None))
        statistics: dict[str, _frechet.Statistics] = {}
        for chunk in chain.from_iterable(parts):
            for name, rows in chunk.items():
                statistics.setdefault(name, _frechet.Statistics(rows.shape[1])).update(rows)
        _write(target, statistics, how, videos=len(taken), networks=needed)
        made[protocol] = target
    if not any(isinstance(each, Path) for each in made.values()):
        raise next(each for each in made.values() if isinstance(each, UsageError))
    return made


def _features(
    how: Preparation,
    videos: list[Path],
    *,
    kept: Path,
    folder: Path,
    logits: Extract | None,
    pool: Extract | None,
    workers: int,
    progress: Callable[[int, int], None],
) -> Iterator[features.Arrays]:
    """Logits of a clip of each video and pool features of its frames, or one of the two."""

    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        video = videos[index]
        if logits is None:
            return (seen := first_frames(video, how.first)), seen
        return clip(video, how, name=str(video.relative_to(folder)))

    def compute(part: range, items: list[tuple[np.ndarray, np.ndarray]]) -> features.Arrays:
        extracted: features.Arrays = {} if logits is None else logits([one for one, _ in items])
        if pool is not None:
            extracted["pool"] = np.concatenate([pool([seen])["pool"][0] for _, seen in items])
        progress(part.stop, len(videos))
        return extracted

    return features.chunks(
        kept,
        inputs=[_identity(video, folder) for video in videos],
        size=CHUNK,
        read=read,
        compute=compute,
        workers=workers,
        progress=progress,
    )


def _identity(video: Path, folder: Path) -> str:
    stat = video.stat()
    return f"{READING}/{video.relative_to(folder)}/{stat.st_size}/{stat.st_mtime_ns}"


def _write(
    target: Path,
    statistics: Mapping[str, _frechet.Statistics],
    how: Preparation,
    *,
    videos: int,
    networks: Sequence[Asset],
) -> None:
    arrays: dict[str, np.ndarray] = {}
    counts = {}
    for name, seen in statistics.items():
        mean, covariance = seen.moments(ddof=DDOF)
        arrays |= {f"{name}_mean": mean, f"{name}_covariance": covariance}
        counts[name] = seen.count
    with products("float32"):  # which features are computed in
        made = provenance.collect(import_torch=True)
    whole = io.BytesIO()
    np.savez(whole, **arrays)  # type: ignore[arg-type]
    write_whole(target, whole.getvalue())
    record = {
        "sha256": hashlib.sha256(whole.getvalue()).hexdigest(),
        "reading": READING,
        "preparation": asdict(how),
        "clips": videos,
        "counts": counts,
        "networks": {asset.name: assets.fingerprint(asset) for asset in networks},
        "provenance": made,
    }
    of = f"{target.parent.name}/{target.stem}"
    write_whole(target.with_suffix(".json"), kept.sealed_json(record, RECORD, of=of))
