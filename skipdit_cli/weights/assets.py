"""What metrics need from outside: networks and reference data, where they are and whether sound.

metrics/NAME/FILE     as published; a hub repository has its files in metrics/NAME/
metrics/NAME.json     where it came from, its sha256, size and licence, for results to quote
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry, weights
from skipdit_cli._disk import read_json, write_whole
from skipdit_cli.errors import MissingAssetError, StoreError, unknown
from skipdit_cli.weights import licences
from skipdit_cli.weights.inventory import component_damage

if TYPE_CHECKING:
    from skipdit_cli.recipe import Recipe


@dataclass(frozen=True)
class Asset:
    """Something that metrics need and that does not ship with the package.

    Attributes:
        what: in a few words.
        source: an address, or a hub repository.
        file: its name here; "" for a hub repository, which is a folder.
        size: bytes of the download; of a hub repository about.
        digest: sha256 of the file; "" for a hub repository, whose listing has those of its files.
        licence: as the source states it.
        used_by: names of metrics.
    """

    name: str
    what: str
    source: str
    file: str
    size: int
    digest: str
    licence: str
    used_by: tuple[str, ...]


_FRECHET = ("fid", "sfid", "inception-score", "precision", "recall", "fid@frames", "fid@coco")
# Nothing here was fetched to find its hash: each is one that others have published.
_ALL = (
    Asset(
        name="alexnet",
        what="AlexNet under LPIPS",
        source="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        file="alexnet-owt-7be5be79.pth",
        size=244_408_911,
        # The name has the first 8 digits; all of them are in many public checks of this file.
        digest="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        licence="BSD-3-Clause",
        used_by=("lpips", "lpips@videosys"),
    ),
    Asset(
        name="inception",
        what="Inception of 2015 as torch-fidelity converted it",
        source="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
        file="weights-inception-2015-12-05-6726825d.pth",
        size=95_628_359,
        # The name has the first 8 digits; all of them are in many public checks of this file.
        digest="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        licence="Apache-2.0",
        used_by=_FRECHET,
    ),
    Asset(
        name="i3d",
        what="I3D of StyleGAN-V's FVD (TorchScript)",
        source="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        file="i3d_torchscript.pt",
        size=51_235_320,
        # StyleGAN-V gives the address alone. Ten public checks of this file agree on the hash,
        # among them that of the hub's ByteDance/LatentSync-1.6, auxiliary/i3d_torchscript.pt.
        digest="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
        licence="not stated (I3D itself: Apache-2.0)",
        used_by=("fvd", "fvd@latte"),
    ),
    Asset(
        name="clip",
        what="CLIP ViT-B/32",
        source="openai/clip-vit-base-patch32",
        file="",
        size=609_400_000,
        digest="",  # the hub lists one for every file
        licence="MIT",
        used_by=("clip-score",),
    ),
    Asset(
        name="imagenet256",
        what="ADM's reference batch of ImageNet at 256 px, with statistics of the whole set",
        source="https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/"
        "imagenet/256/VIRTUAL_imagenet256_labeled.npz",
        file="VIRTUAL_imagenet256_labeled.npz",
        size=2_037_122_530,
        # Guided-diffusion gives none; git-lfs pointers of independent copies agree, such as that
        # of ruizegao/efficient-dit and the hub's xiangzai/reference.
        digest="b32732719497e42660a9affb4a966068cba0855ac449b82015e34ec376d20758",
        licence=licences.IMAGENET,  # of the images; OpenAI's statistics of them are MIT
        used_by=("fid", "sfid", "precision", "recall"),
    ),
    Asset(
        name="coco-val2014",
        what="COCO's val2014 images",
        source="http://images.cocodataset.org/zips/val2014.zip",
        file="val2014.zip",
        size=6_645_013_297,
        # TensorFlow Datasets, url_checksums/coco.txt; torchvision's prototypes have the same.
        digest="fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
        licence="terms of use of Flickr",
        used_by=("fid@coco",),
    ),
)
ASSETS: Mapping[str, Asset] = MappingProxyType({asset.name: asset for asset in _ALL})
# Loading TorchScript runs what is in the file, so `require` hashes these each time.
RUNS_CODE = frozenset({"i3d"})


def asset(name: str) -> Asset:
    """The asset of a name.

    Raises:
        UsageError: there is none; the nearest known name is named.
    """
    if name not in ASSETS:
        raise unknown("asset", name, ASSETS)
    return ASSETS[name]


def known() -> set[str]:
    """The names that `resolve` takes."""
    metrics = {metric for each in ASSETS.values() for metric in each.used_by}
    return {*ASSETS, *metrics, *registry.names("metrics"), "all"}


def for_metric(metric: str) -> tuple[str, ...]:
    """The assets that a metric needs; most need none."""
    return tuple(name for name, each in ASSETS.items() if metric in each.used_by)


def resolve(names: Iterable[str], *, place: str = "") -> tuple[str, ...]:
    """Assets, metrics and "all" -> assets, each once.

    Raises:
        UsageError: a name is neither; the nearest known one is named.
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in known():
            raise unknown("metric", name, known(), place=place)
        chosen = tuple(ASSETS) if name == "all" else (name,) if name in ASSETS else for_metric(name)
        found |= dict.fromkeys(chosen)
    return tuple(found)


def for_recipe(recipe: "Recipe") -> tuple[str, ...]:
    """The assets that a recipe's columns need, but for those that cannot be measured yet."""
    metrics = [column.metric for column in recipe.columns if column.planned is None]
    return tuple(dict.fromkeys(name for metric in metrics for name in for_metric(metric)))


def folder(name: str) -> Path:
    """The folder of an asset, whether it is here or not."""
    return weights.home() / "metrics" / asset(name).name


def target(name: str) -> Path:
    """Where an asset is, or will be: a file, or the folder of a hub repository."""
    return folder(name) / asset(name).file


def locate(name: str) -> Path | None:
    """The file or folder of an asset, or None if it is not here or was fetched in part."""
    path = target(name)
    if asset(name).file:
        return path if path.is_file() else None
    return path if path.is_dir() and not (path / weights.INCOMPLETE).exists() else None


def require(name: str) -> Path:
    """The file or folder of an asset.

    Raises:
        MissingAssetError: it is not here or damaged; the command that fetches it and its size are
            named. A file that runs code when it is loaded has to have its hash.
    """
    status, detail = state(name)
    if status == "here" and name in RUNS_CODE and not verified(name):
        status, detail = "damaged", "its hash is not the known one"
    if status != "here":
        why = f"damaged ({detail})" if detail else "not here"
        size = weights.size_text(asset(name).size)
        raise MissingAssetError(
            f"{name} ({asset(name).what}) is {why}",
            fix=f"run `skipdit download --metrics {name}` ({size})",
        )
    return target(name)


def state(name: str) -> tuple[str, str]:
    """One of "here", "absent" and "damaged", and what is wrong; hashes are not looked at."""
    path = locate(name)
    if path is None:
        return "absent", ""
    detail = damage(name, path)
    return ("damaged" if detail else "here"), detail


def damage(name: str, path: Path) -> str:
    """What is wrong with a file or folder as an asset, seen from its size, or ""."""
    chosen = asset(name)
    if not chosen.file:
        if not (path / "preprocessor_config.json").is_file():
            return "preprocessor_config.json is missing"
        return component_damage("model", path) or component_damage("tokenizer", path)
    size = path.stat().st_size
    return "" if size == chosen.size else f"it has {size} bytes, not {chosen.size}"


def verified(name: str) -> bool:
    """Whether a file is here with its hash, or a folder with those that were written down."""
    path = locate(name)
    if path is None:
        return False
    if asset(name).file:
        return weights.sha256(path) == asset(name).digest
    files = record(name).get("files")
    return bool(files) and files == file_digests(path)


def lacking(name: str) -> bool:
    """Whether an asset has to be fetched: absent, damaged, or changed since its hash was found."""
    if state(name)[0] != "here":
        return True
    if name not in RUNS_CODE and unchanged(name):
        return False
    if not asset(name).file and not record(name):
        return False  # it came by hand, and nothing tells what it should be
    return not verified(name)


def unchanged(name: str) -> bool:
    """Whether a file has the size and the time that were written down with its sha256."""
    path, origin = locate(name), record(name)
    if path is None or not asset(name).file or not origin.get("sha256"):
        return False
    stat = path.stat()
    return (origin.get("size"), origin.get("modified")) == (stat.st_size, stat.st_mtime_ns)


def fingerprint(name: str) -> str:
    """16 hex digits: the first of a file's sha256; "absent" if the asset is not here.

    Of a folder they change with the names and sizes of its files and with the small ones.
    """
    path = locate(name)
    if path is None:
        return "absent"
    if not asset(name).file:
        return weights.folder_fingerprint(path, name=asset(name).source)
    return sha256(name, path)[:16]


def sha256(name: str, path: Path) -> str:
    """The sha256 of an asset's file; the one written down if the file has not changed since."""
    if unchanged(name):
        return str(record(name)["sha256"])
    return weights.sha256(path)


def file_digests(path: Path) -> dict[str, str]:
    """The sha256 of every file in a folder, by its name."""
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return {str(file.relative_to(path)): weights.sha256(file) for file in files}


def record_path(name: str) -> Path:
    """Where it is written down what an asset is."""
    return folder(name).with_name(f"{asset(name).name}.json")


def record(name: str) -> dict[str, Any]:
    """What was written down when an asset came: source, sha256, size, licence; {} if nothing."""
    with suppress(StoreError):  # it is written down again
        return read_json(record_path(name), dict, what="record of an asset", fix="delete it") or {}
    return {}


def write_record(name: str) -> None:
    """Write down what an asset is that is here and was found to have its hash."""
    chosen, path = asset(name), target(name)
    content: dict[str, Any] = {
        "name": name,
        "what": chosen.what,
        "source": chosen.source,
        "licence": chosen.licence,
    }
    record_path(name).unlink(missing_ok=True)
    if chosen.file:
        stat = path.stat()
        content |= {"sha256": chosen.digest, "size": stat.st_size, "modified": stat.st_mtime_ns}
    else:
        digests = file_digests(path)
        listed = "".join(f"{digest} {file}\n" for file, digest in digests.items())
        content["sha256"] = hashlib.sha256(listed.encode()).hexdigest()
        content["size"] = sum((path / file).stat().st_size for file in digests)
        content["files"] = digests
    write_whole(record_path(name), json.dumps(content, indent=1).encode() + b"\n")
