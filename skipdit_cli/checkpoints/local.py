"""What of a checkpoint is on this machine: where its files are, and what tells them apart."""

import functools
import hashlib
import os
import shlex
import time
from contextlib import suppress
from pathlib import Path

from skipdit_cli.checkpoints import licences, pipeline
from skipdit_cli.checkpoints.card import CONFIGS, EMBEDDED, RANDOM, Card, Component
from skipdit_cli.embedded import shipped
from skipdit_cli.embedded.shipped import home
from skipdit_cli.errors import MissingAssetError, StoreError, UsageError
from skipdit_cli.storage import given, kept
from skipdit_cli.storage.disk import write_whole

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"  # the name diffusers looks for
INCOMPLETE = ".incomplete"  # in the folder of a component while it is being fetched
SKIP_STEPS = 150  # of the first stage of training, as the embedded models had them
SMALL = 1_000_000  # bytes of a file that a fingerprint reads
LARGE = 16_000_000  # bytes of a file whose hash is worth remembering
YOUNG = 2 * 10**9  # nanoseconds: no file system has coarser times
HASH = kept.Kind("hash of a file", 1)


def weights_file(chosen: Card) -> Path:
    """Where the converted weights of a checkpoint are, or will be."""
    if chosen.pipeline:
        return Path(chosen.folder) / "transformer" / WEIGHTS_FILE
    if chosen.folder:
        return Path(chosen.folder) / WEIGHTS_FILE
    root = shipped.embedded() if chosen.embedded else home() / "weights"
    return root / chosen.name / WEIGHTS_FILE


def component_folder(part: Component) -> Path:
    """Where a component is, or will be."""
    if part.repository == EMBEDDED:
        return shipped.embedded() / part.folder
    if part.repository == CONFIGS:
        return Path(__file__).parent / CONFIGS / part.folder
    return home() / "components" / part.repository.replace("/", "--") / part.folder


def configuration(part: Component) -> Component:
    """What the package has of a component of the hub: its configuration, if it ships."""
    return Component(CONFIGS, f"{part.repository.replace('/', '--')}/{part.folder}".rstrip("/"))


def locate(chosen: Card) -> Path | None:
    """The converted weights file of a checkpoint; None if it is not here, or weights are drawn."""
    if chosen.pipeline:
        folder = Path(chosen.folder)
        return None if chosen.random or pipeline.lacking(folder) else folder
    path = weights_file(chosen)
    return path if path.is_file() and not chosen.random else None


def require(chosen: Card, *, path: Path | None = None) -> Path | None:
    """The converted weights file, or `path` in its place; all components are here as well.

    None where the weights are drawn.

    Raises:
        MissingAssetError: something is not here; the command that fetches it and how much that is
            are named.
    """
    _check_own(chosen, path)
    file = path or locate(chosen)
    if file is None and not chosen.random:
        raise _not_here(chosen)
    for key in absent_components(chosen):
        component(chosen, key)
    return file


def _check_own(chosen: Card, path: Path | None) -> None:
    """Raise a UsageError where a file is given in place of what has several."""
    if path and chosen.pipeline:
        problem = f"a file holds one network, and {chosen.name} is a pipeline of several parts"
        raise UsageError(problem, place=f"--weights {path}", fix="leave it out")


def _not_here(chosen: Card) -> MissingAssetError:
    """The error of weights that are not here; what brings them is named."""
    name = chosen.name
    if chosen.pipeline:
        absent = ", ".join(pipeline.lacking(Path(chosen.folder)))
        fix = reinstall(chosen) if chosen.embedded else pipeline.AGAIN
        if pipeline.HUB.fullmatch(name):
            fix = f"run `skipdit download --pipeline {name}`"
        return MissingAssetError(f"the weights of {name} are not here: of {absent}", fix=fix)
    if chosen.by_path:
        return MissingAssetError(
            f"the weights of {name} are not here: it has no {WEIGHTS_FILE}",
            fix="train it to the end, put the file there, or give one with --weights",
        )
    if chosen.embedded or chosen.folder:
        source = "skipdit" if chosen.embedded else "its family's package"
        fix = reinstall(chosen) if chosen.embedded else "install it again"
        return MissingAssetError(
            f"the weights of {name} are not here, though they come with {source}", fix=fix
        )
    size = size_text(chosen.size)
    if lacking := absent_components(chosen):
        parts = sum(chosen.components[key].size for key in lacking)
        size += f", and {size_text(parts)} of {', '.join(lacking)}"
    return MissingAssetError(
        f"the weights of {name} are not here",
        fix=f"run `{fetching(chosen)}` (about {size}), or give a file with --weights",
    )


def fetching(chosen: Card) -> str:
    """The command that fetches what of a checkpoint is not here."""
    return licences.command(shlex.quote(chosen.name), [chosen.licence])


def reinstall(chosen: Card) -> str:
    """What brings the weights of an embedded model back."""
    folder = chosen.folder or weights_file(chosen).parent
    command = f"skipdit train --model {chosen.name} --out {folder}"
    if chosen.skip and not chosen.native_skip:  # `train` asks for these of a model with added skips
        command += f" --start {chosen.name.removesuffix('-skip')} --skip-steps {SKIP_STEPS}"
    return f"install it again, or make them with `{command}`"


def absent_components(chosen: Card) -> list[str]:
    """Those of a checkpoint's components that are not here."""
    return [key for key, part in chosen.components.items() if component_path(part) is None]


def component_path(part: Component) -> Path | None:
    """The folder of a component, or None if it is not here or was fetched in part."""
    folder = component_folder(part)
    return folder if folder.is_dir() and not (folder / INCOMPLETE).exists() else None


def component(chosen: Card, key: str) -> Path:
    """The folder of one of a checkpoint's components.

    Raises:
        MissingAssetError: it is not here; the command that fetches it and its size are named.
    """
    part = chosen.components[key]
    path = component_path(part)
    if path is None:
        raise MissingAssetError(
            f"the {key} of {chosen.name} is not here",
            fix=f"run `{fetching(chosen)}` (about {size_text(part.size)} for this part)",
        )
    return path


def component_fingerprint(part: Component) -> str:
    """What tells one component from another: names and sizes of its files, and its small ones."""
    folder = component_path(part)
    if folder is None:
        return "absent"
    return folder_fingerprint(folder, name=f"{part.repository}/{part.folder}")


def folder_fingerprint(folder: Path, *, name: str) -> str:
    """16 hex digits of a name, the names and sizes of a folder's files, and its small ones."""
    seen = hashlib.sha256(name.encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        size = file.stat().st_size
        seen.update(f"{file.relative_to(folder)} {size}\n".encode())
        if size < SMALL:
            seen.update(file.read_bytes())
    return seen.hexdigest()[:16]


def size_text(size: int) -> str:
    """Bytes as people say them: '2.77 GB'."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def denoiser_size(chosen: Card) -> str:
    """The size of a checkpoint's own file, which is known to the byte or about."""
    return f"{'' if chosen.exact else 'about '}{size_text(chosen.size)}"


def fingerprint(chosen: Card, *, path: Path | None = None) -> str:
    """16 hex digits that change with the weights file or a component; "absent" if it is not here.

    RANDOM where weights are drawn. Without components they are the first digits of the file's
    sha256. Those of a folder that is named by its path change with its card, too.
    """
    if chosen.random:
        return RANDOM
    _check_own(chosen, path)
    source = path or locate(chosen)
    if source is None:
        return "absent"
    if chosen.pipeline:
        return pipeline_fingerprint(source)
    if path is not None:
        given.check(path, place=f"--weights {path}", fix="give a file, .pt or .safetensors")
    digest = remembered_sha256(source)
    if parts := chosen.components:
        prints = [digest, *(component_fingerprint(part) for part in parts.values())]
        digest = hashlib.sha256(":".join(prints).encode()).hexdigest()
    if chosen.by_path:
        digest = hashlib.sha256(f"{digest}:{chosen.identity}".encode()).hexdigest()
    return digest[:16]


def pipeline_fingerprint(folder: Path, *, weights: bool = True) -> str:
    """16 hex digits of all files of a pipeline's parts, or without weights, of what plans need."""
    seen = hashlib.sha256()
    for name in ("", *sorted(pipeline.parts(folder))):
        for file in sorted(each for each in (folder / name).glob("*") if each.is_file()):
            counts = weights or pipeline.is_config(file.name)
            if counts if name else file.name == pipeline.INDEX:
                seen.update(f"{file.relative_to(folder)} {remembered_sha256(file)}\n".encode())
    return seen.hexdigest()[:16]


def remembered_sha256(path: Path) -> str:
    """The sha256 of a file, read once unless its size, times or place on the disk change.

    It is kept under `home`, where that can be written. Of a file that has just changed it is not:
    as for git's index, a second change might leave the same times.

    Raises:
        OSError: it cannot be read.
    """
    seen = _seen(path)
    if seen["size"] < LARGE:
        return sha256(path)
    key = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    record = home() / "hashes" / f"{key}.json"
    with suppress(StoreError), kept.damaged_is_absent():
        known = kept.read_json(record, dict, HASH, of=key)
        if known and known.get("file") == seen:
            return str(known["sha256"])
    began = time.time_ns()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if _seen(path) == seen and began - max(seen["modified"], seen["changed"]) > YOUNG:
        with suppress(StoreError):
            content = {"file": seen, "sha256": digest}
            write_whole(record, kept.sealed_json(content, HASH, of=key))
    return digest


def _seen(path: Path) -> dict[str, int]:
    """What tells a file from what it was, seen from outside.

    Nobody can set the time of its last change, as they can that of the last change of its content.
    """
    stat = path.stat()
    return {
        "size": stat.st_size,
        "modified": stat.st_mtime_ns,
        "changed": stat.st_ctime_ns,
        "inode": stat.st_ino,
    }


def sha256(path: Path) -> str:
    """The sha256 of a file, read once in a process unless its size or time changes.

    Raises:
        OSError: it cannot be read.
    """
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _sha256(path: Path, size: int, mtime: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
