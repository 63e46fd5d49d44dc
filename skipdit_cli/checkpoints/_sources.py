"""What a source has: files of a hub repository or at an address, with their size and hash.

A repository is listed before anything is fetched, and its files are taken from the commit that was
listed. Where it cannot be reached, what huggingface_hub has in its own cache stands in for it.
`huggingface_hub` reads HF_ENDPOINT and HF_HUB_OFFLINE when it is imported, hence the late imports.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from skipdit_cli.checkpoints.catalog import Card, Component
from skipdit_cli.errors import MissingAssetError

TIMEOUT = 20.0  # seconds that a listing may take to begin
FROM_FILE = ", or give the file itself with --from FILE"
_ASIDE = (
    "copy SKIPDIT_HOME or the cache of huggingface_hub from a machine that has them" + FROM_FILE
)
_WEIGHTS = re.compile(
    r"(model|pytorch_model|diffusion_pytorch_model)(-\d{5}-of-(\d{5}))?\.(safetensors|bin)"
)
_INDEX = re.compile(
    r"(model|pytorch_model|diffusion_pytorch_model)\.(safetensors|bin)\.index\.json"
)


@dataclass(frozen=True)
class RemoteFile:
    """A file at its source.

    Attributes:
        path: inside the repository, or the last part of the address.
        address: where it is fetched.
        size: bytes, None if the source does not say.
        digest: sha256 (64 hex digits, or as many of the first as are known) or git's hash (40), ""
            if nothing is known of it.
        version: what changes when the file does: the digest, or the server's word for it.
        repository: on the hub, "" for a plain address.
        cached: where huggingface_hub's own cache has it.
    """

    path: str
    address: str
    size: int | None = None
    digest: str = ""
    version: str = ""
    repository: str = ""
    cached: Path | None = None

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def label(self) -> str:
        """What people are told."""
        return f"{self.repository}/{self.path}" if self.repository else self.address


@dataclass(frozen=True)
class Listing:
    """The files of a repository by path, and the licence it states.

    Attributes:
        note: why the files are only those of huggingface_hub's cache, "" if they are all.
        commit: of which they are; "" of those of the cache.
    """

    repository: str
    files: dict[str, RemoteFile]
    licence: str = ""
    note: str = ""
    commit: str = ""


def list_repository(repository: str, *, kind: str = "model") -> Listing:
    """The files of a hub repository.

    Args:
        kind: "model" or "dataset".
    Raises:
        MissingAssetError: the hub cannot be reached, or does not have or give the repository, and
            the cache has none of it.
    """
    from huggingface_hub import HfApi

    try:
        asked = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
        info: Any = asked(repository, files_metadata=True, timeout=TIMEOUT)
        commit = info.sha or "main"
        files = [_listed(repository, commit, entry, kind) for entry in info.siblings or ()]
    except Exception as error:  # whatever the network and the answer hold
        reason = unreachable(repository, error)
        if cached := _cached_files(repository, kind):
            return Listing(repository, {file.path: file for file in cached}, note=reason.problem)
        raise reason from None
    licence = str(getattr(info.card_data, "license", None) or "")
    return Listing(repository, {file.path: file for file in files}, licence, commit=commit)


def probe(address: str) -> RemoteFile | None:
    """The file at an address, None if there is none.

    Raises:
        MissingAssetError: the server cannot be reached.
    """
    from huggingface_hub.utils import get_session

    try:
        headers = {"Accept-Encoding": "identity"}
        answer = get_session().request("HEAD", address, headers=headers, timeout=TIMEOUT)
        if answer.status_code in (404, 410):
            return None
        answer.raise_for_status()
    except Exception as error:
        raise unreachable(address, error) from None
    length = answer.headers.get("Content-Length", "")
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    size = int(length) if length.isdigit() else None
    return RemoteFile(PurePosixPath(address).name, address, size, version=version)


def denoiser_file(card: Card, listing: Listing | None = None) -> RemoteFile:
    """The first of the card's accepted file names that its source has.

    Args:
        listing: of the card's repository; left out for a card whose source is an address.
    Raises:
        MissingAssetError: none is there, and the most alike names that are there are named; or what
            is there has another size or hash than is known of it.
    """
    if listing is None:
        first = next((file for name in card.files if (file := probe(card.source + name))), None)
        has: list[str] = []
    else:
        first = next((listing.files[name] for name in card.files if name in listing.files), None)
        has = _alike(card.files, listing.files)
    if first:
        return _as_known(card, first)
    where = _where(listing) if listing else card.source
    raise MissingAssetError(
        f"{where} has no {' or '.join(card.files)}" + (f", but {', '.join(has)}" if has else ""),
        place=f"skipdit download {card.name}",
        fix="look which of its files is the model's and give it with --from FILE",
    )


def _as_known(card: Card, file: RemoteFile) -> RemoteFile:
    """A card's file with what is known of it beforehand, so that another is never taken for it."""
    hashed = len(file.digest) == 64
    wrong = ""
    if card.exact and file.size not in (None, card.size):
        wrong = f"has {file.size} bytes, not the {card.size} that it is known to have"
    elif hashed and not file.digest.startswith(card.digest):
        wrong = f"has the sha256 {file.digest[:12]}…, not {card.digest}… as is known of it"
    if wrong:
        raise MissingAssetError(
            f"{file.label} {wrong}",
            place=f"skipdit download {card.name}",
            fix="it may have been replaced: if you trust it, give the file with --from FILE",
        )
    size = card.size if card.exact else file.size
    return replace(file, size=size, digest=file.digest if hashed else card.digest or file.digest)


def component_files(component: Component, listing: Listing) -> list[RemoteFile]:
    """The files of a component: configuration, vocabulary, and one set of weights.

    Weights are taken as safetensors, whole or in shards, and as .bin only where there are none;
    variants (fp16, non_ema) and those of other frameworks are left.

    Raises:
        MissingAssetError: the folder is not there, or lacks a shard.
    """
    inside = {
        file.name: file
        for file in listing.files.values()
        if str(PurePosixPath(file.path).parent) == (component.folder or ".")
    }
    place = f"{_where(listing)}, {component.folder or 'its root'}"
    weights = _one_set(inside, place)
    kind = "bin" if any(name.endswith(".bin") for name in weights) else "safetensors"
    chosen = dict.fromkeys(weights)
    for name in sorted(inside):
        if name.endswith(".json") and ".index." in name:
            match = _INDEX.fullmatch(name)
            if match and match[2] == kind and weights and "-of-" in weights[0]:
                chosen[name] = None
        elif name.endswith((".json", ".model")) or name in ("vocab.txt", "merges.txt"):
            chosen[name] = None
    if not chosen:
        raise MissingAssetError(f"{place}: there is no such folder", fix="look at the repository")
    return [inside[name] for name in chosen]


def _one_set(inside: Iterable[str], place: str) -> list[str]:
    """One file of weights, or all shards of a set."""
    matches = [match for name in sorted(inside) if (match := _WEIGHTS.fullmatch(name))]
    for kind in ("safetensors", "bin"):
        of_kind = [match for match in matches if match[4] == kind]
        if whole := [match[0] for match in of_kind if not match[2]]:
            return whole[:1]
        if of_kind:
            total = int(of_kind[0][3])
            shards = [match[0] for match in of_kind if int(match[3]) == total]
            if len(shards) != total:
                raise MissingAssetError(f"{place}: {len(shards)} of {total} shards are there")
            return shards
    return []


def unreachable(what: str, error: Exception) -> MissingAssetError:
    """The error for a source that gives nothing, with its reason in one line."""
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return MissingAssetError(
            f"cannot fetch {what}: HF_HUB_OFFLINE is set",
            fix=f"unset HF_HUB_OFFLINE, or {_ASIDE}",
        )
    if isinstance(error, errors.GatedRepoError):
        return MissingAssetError(
            f"cannot fetch {what}: its terms have to be accepted on the hub",
            fix="accept them there and run `hf auth login`",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return MissingAssetError(
            f"cannot fetch {what}: there is no such repository, or it is private",
            fix=f"look for it on the hub, or {_ASIDE}",
        )
    reason = (str(error) or type(error).__name__).splitlines()[0][:160]
    return MissingAssetError(
        f"cannot fetch {what} ({reason})", fix=f"check the network and HF_ENDPOINT, or {_ASIDE}"
    )


def _listed(repository: str, commit: str, entry: Any, kind: str) -> RemoteFile:
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    path = entry.rfilename
    digest = entry.lfs.sha256 if entry.lfs else entry.blob_id or ""
    cached = try_to_load_from_cache(repository, path, revision=commit, repo_type=kind)
    return RemoteFile(
        path=path,
        address=hf_hub_url(repository, path, revision=commit, repo_type=kind),
        size=entry.lfs.size if entry.lfs else entry.size,
        digest=digest,
        version=digest or commit,
        repository=repository,
        cached=Path(cached) if isinstance(cached, str) else None,
    )


def _cached_files(repository: str, kind: str) -> list[RemoteFile]:
    """The files of a repository in huggingface_hub's cache, of `main` or the newest revision."""
    from huggingface_hub import CacheNotFound, constants, hf_hub_url, scan_cache_dir

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, ValueError, OSError):
        return []
    revisions = [
        revision
        for repo in repos
        if repo.repo_type == kind and repo.repo_id == repository
        for revision in repo.revisions
    ]
    if not revisions:
        return []
    newest = max(revisions, key=lambda each: ("main" in each.refs, each.last_modified))
    files = []
    for file in newest.files:
        path = file.file_path.relative_to(newest.snapshot_path).as_posix()
        name = file.blob_path.name  # the hash, where the cache links to blobs
        digest = name if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", name) else ""
        address = hf_hub_url(repository, path, revision=newest.commit_hash, repo_type=kind)
        size = file.size_on_disk
        files.append(RemoteFile(path, address, size, digest, digest, repository, file.file_path))
    return files


def _where(listing: Listing) -> str:
    """How errors call a repository."""
    if not listing.note:
        return listing.repository
    return f"{listing.note}; huggingface_hub's cache of {listing.repository}"


def _alike(wanted: Iterable[str], files: Iterable[str]) -> list[str]:
    """The most alike names, or else some that could be weights."""
    kinds = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
    files = [name for name in files if name.endswith(kinds)]
    near = [name for each in wanted for name in get_close_matches(each, files, n=3, cutoff=0.5)]
    return list(dict.fromkeys(near or sorted(files)))[:4]
