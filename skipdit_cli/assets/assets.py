"""What metrics need from outside: where it is and whether it is sound.

What there is stands in the metrics' files (`skipdit_cli.metrics.Asset`); this collects it.

metrics/NAME/FILE     as published; a hub repository has its files in metrics/NAME/, and a list of
                      prompts is in prompts/NAME/
metrics/NAME.json     where it came from, its sha256, size and licence, for results to quote
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from skipdit_cli import registry
from skipdit_cli.checkpoints import licences, local
from skipdit_cli.checkpoints.inventory import component_damage
from skipdit_cli.errors import MissingAssetError, UsageError, unknown
from skipdit_cli.metrics import Asset, Metric
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole

RECORD = kept.Kind("record of an asset", 2)
TOKENIZER = "tokenizer"  # in `Asset.holds`


def networks(metric: Metric) -> tuple[Asset, ...]:
    """The assets that a metric looks through."""
    return metric.EXTRACTOR.assets if metric.EXTRACTOR else metric.ASSETS


def of(metric: Metric) -> tuple[Asset, ...]:
    """All that a metric declares: what it looks through, then what it compares with."""
    return (*networks(metric), *metric.REFERENCES)


def declared() -> dict[str, Asset]:
    """All assets by name, in the order of the metrics' names.

    Raises:
        UsageError: two metrics declare different assets under one name, or the file of one of the
            metrics is wrong.
    """
    by_name: dict[str, Asset] = {}
    first: dict[str, str] = {}
    for name in registry.names("metrics"):
        for asset in of(registry.load("metrics", name)):
            if by_name.setdefault(asset.name, asset) != asset:
                raise UsageError(
                    f"the asset {asset.name!r} is one thing in {first[asset.name]} and another "
                    f"in {name}",
                    fix="give one of them another name",
                )
            first.setdefault(asset.name, name)
    return by_name


def users(asset: Asset) -> list[str]:
    """The names of the metrics that declare an asset."""
    names = registry.names("metrics")
    return [name for name in names if asset in of(registry.load("metrics", name))]


def known() -> set[str]:
    """The names that `resolve` takes."""
    return {*declared(), *registry.names("metrics"), "all"}


def for_metric(name: str) -> tuple[Asset, ...]:
    """The assets that a metric or a part of one needs; a cost such as `latency` needs none."""
    return of(registry.load("metrics", name)) if registry.known("metrics", name) else ()


def resolve(names: Iterable[str], *, place: str = "") -> tuple[Asset, ...]:
    """Assets, metrics and "all" -> assets, each once.

    Raises:
        UsageError: a name is neither; the nearest known one is named.
    """
    chosen: dict[str, Asset] = {}
    for name in names:
        if name in registry.names("metrics"):
            chosen |= {asset.name: asset for asset in for_metric(name)}
            continue
        if name not in known():
            raise unknown("metric", name, known(), place=place)
        chosen |= declared() if name == "all" else {name: declared()[name]}
    return tuple(chosen.values())


def folder(asset: Asset) -> Path:
    """The folder of an asset, whether it is here or not."""
    return local.home() / asset.folder / asset.name


def target(asset: Asset) -> Path:
    """Where an asset is, or will be: a file, or the folder of a hub repository."""
    return folder(asset) / asset.file


def locate(asset: Asset) -> Path | None:
    """The file or folder of an asset, or None if it is not here or was fetched in part."""
    path = target(asset)
    if asset.file:
        return path if path.is_file() else None
    return path if path.is_dir() and not (path / local.INCOMPLETE).exists() else None


def require(asset: Asset) -> Path:
    """The file or folder of an asset.

    Raises:
        MissingAssetError: it is not here or damaged; the command that fetches it and its size are
            named. A file that runs code when it is loaded has to have its hash.
    """
    status, detail = state(asset)
    if status == "here" and asset.runs_code and not verified(asset):
        status, detail = "damaged", "its hash is not the known one"
    if status != "here":
        why = f"damaged ({detail})" if detail else "not here"
        command = licences.command(f"--metrics {asset.name}", [asset.licence])
        size = local.size_text(asset.size)
        raise MissingAssetError(
            f"{asset.name} ({asset.what}) is {why}",
            fix=f"run `{command}` ({size})",
        )
    return target(asset)


def state(asset: Asset) -> tuple[str, str]:
    """One of "here", "absent" and "damaged", and what is wrong; hashes are not looked at."""
    path = locate(asset)
    if path is None:
        return "absent", ""
    detail = damage(asset, path)
    return ("damaged" if detail else "here"), detail


def damage(asset: Asset, path: Path) -> str:
    """What is wrong with a file or folder as an asset, seen from its size, or ""."""
    if not asset.file:
        for file in asset.holds:
            if file != TOKENIZER and not (path / file).is_file():
                return f"{file} is missing"
        wrong = component_damage("model", path)
        return wrong or (component_damage(TOKENIZER, path) if TOKENIZER in asset.holds else "")
    size = path.stat().st_size
    return "" if size == asset.size else f"it has {size} bytes, not {asset.size}"


def verified(asset: Asset) -> bool:
    """Whether a file is here with its hash, or a folder with those that were written down."""
    path = locate(asset)
    if path is None:
        return False
    if asset.file:
        return local.sha256(path) == asset.digest
    files = record(asset).get("files")
    return bool(files) and files == file_digests(path)


def lacking(asset: Asset) -> bool:
    """Whether an asset has to be fetched: absent, damaged, or changed since its hash was found."""
    if state(asset)[0] != "here":
        return True
    if not asset.runs_code and unchanged(asset):
        return False
    if not asset.file and not record(asset):
        return False  # it came by hand, and nothing tells what it should be
    return not verified(asset)


def unchanged(asset: Asset) -> bool:
    """Whether a file has the size and the time that were written down with its sha256."""
    path, origin = locate(asset), record(asset)
    if path is None or not asset.file or not origin.get("sha256"):
        return False
    stat = path.stat()
    return (origin.get("size"), origin.get("modified")) == (stat.st_size, stat.st_mtime_ns)


def fingerprint(asset: Asset) -> str:
    """16 hex digits: the first of a file's sha256; "absent" if the asset is not here.

    Of a folder they change with the names and sizes of its files and with the small ones.
    """
    path = locate(asset)
    if path is None:
        return "absent"
    if not asset.file:
        return local.folder_fingerprint(path, name=asset.source)
    return sha256(asset, path)[:16]


def sha256(asset: Asset, path: Path) -> str:
    """The sha256 of an asset's file; the one written down if the file has not changed since."""
    if unchanged(asset):
        return str(record(asset)["sha256"])
    return local.sha256(path)


def file_digests(path: Path) -> dict[str, str]:
    """The sha256 of every file in a folder, by its name."""
    files = sorted(each for each in path.rglob("*") if each.is_file())
    return {str(file.relative_to(path)): local.sha256(file) for file in files}


def record_path(asset: Asset) -> Path:
    """Where it is written down what an asset is."""
    return folder(asset).with_name(f"{asset.name}.json")


def record(asset: Asset) -> dict[str, Any]:
    """What was written down when an asset came: source, sha256, size, licence; {} if nothing."""
    with kept.damaged_is_absent():
        return kept.read_json(record_path(asset), dict, RECORD, of=asset.name) or {}
    return {}


def write_record(asset: Asset) -> None:
    """Write down what an asset is that is here and was found to have its hash."""
    path = target(asset)
    content: dict[str, Any] = {
        "name": asset.name,
        "what": asset.what,
        "source": asset.source,
        "licence": asset.licence,
    }
    record_path(asset).unlink(missing_ok=True)
    if asset.file:
        stat = path.stat()
        content |= {"sha256": asset.digest, "size": stat.st_size, "modified": stat.st_mtime_ns}
    else:
        digests = file_digests(path)
        listed = "".join(f"{digest} {file}\n" for file, digest in digests.items())
        content["sha256"] = hashlib.sha256(listed.encode()).hexdigest()
        content["size"] = sum((path / file).stat().st_size for file in digests)
        content["files"] = digests
    write_whole(record_path(asset), kept.sealed_json(content, RECORD, of=asset.name))
