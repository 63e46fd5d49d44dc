"""The prompt list "coco": 30,000 captions of COCO's val2014 images, one per image.

The paper scores text-to-image on 30,000 captions and does not say which. Images and their captions
are ranked by the sha256 of "SEED/ID", so that the choice depends on no random generator's version.
"""

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

from skipdit_cli.checkpoints import local
from skipdit_cli.checkpoints._fetch import Progress, fetch, mismatch, silent
from skipdit_cli.checkpoints._sources import RemoteFile, probe
from skipdit_cli.checkpoints.inventory import coco_list
from skipdit_cli.errors import MissingAssetError, UsageError
from skipdit_cli.storage import given, kept
from skipdit_cli.storage.disk import write_whole

IMAGES = kept.Kind("list of COCO's images", 2)  # beside that of prompts
ADDRESS = "http://images.cocodataset.org/annotations/annotations_trainval2014.zip"
SHA256 = "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009"  # as TFDS records it
SIZE = 252_900_000  # bytes, about
LICENCE = "CC-BY-4.0"
MEMBER = "annotations/captions_val2014.json"
COUNT = 30_000
SEED = 0


def source() -> RemoteFile:
    """The archive of captions.

    Raises:
        MissingAssetError: the server cannot be reached or does not have it.
    """
    archive = probe(ADDRESS)
    if archive is None:
        raise MissingAssetError(f"{ADDRESS} is gone", place="skipdit download coco")
    return replace(archive, digest=SHA256, version=SHA256)


def target() -> Path:
    """Where the archive goes."""
    return local.home() / "downloads" / "coco" / Path(ADDRESS).name


def download(
    *, archive: Path | None = None, delete_original: bool = False, progress: Progress = silent
) -> Path:
    """Fetch the captions and write the list, with a .json beside it that tells where it is from.

    Args:
        archive: a copy of the archive that is here already.
        delete_original: delete what was fetched.
    Returns:
        The list, one caption per line in the order of the image ids; at once if it is there.
    Raises:
        MissingAssetError: the captions cannot be fetched, or are not what they should be.
        UsageError: `archive` is another file.
        StoreError: the disk is full or cannot be written.
    """
    path = coco_list()
    if not sound():
        archive = archive or fetch(source(), target(), progress=progress)
        chosen = choose(_captions(archive), count=COUNT, seed=SEED)
        origin = {
            "source": ADDRESS,
            "sha256": SHA256,
            "member": MEMBER,
            "licence": LICENCE,
            "seed": SEED,
            "count": len(chosen),
            "image_ids": list(chosen),
        }
        text = "".join(f"{caption}\n" for caption in chosen.values()).encode()
        origin["list"] = hashlib.sha256(text).hexdigest()
        write_whole(path.with_suffix(".json"), kept.sealed_json(origin, IMAGES, of=path.stem))
        write_whole(path, text)
    if delete_original:
        target().unlink(missing_ok=True)
    return path


def sound() -> bool:
    """Whether the list is here as it was written; one that is not is told of."""
    path = coco_list()
    if not path.is_file():
        return False
    with kept.damaged_is_absent():
        origin = kept.read_json(path.with_suffix(".json"), dict, IMAGES, of=path.stem)
        return kept.unchanged(path, (origin or {}).get("list"), IMAGES)
    return False


def choose(captions: list[dict], *, count: int, seed: int) -> dict[int, str]:
    """One caption each of `count` images, by image id.

    Args:
        captions: entries of COCO's `annotations`: `id`, `image_id`, `caption`.
    Raises:
        MissingAssetError: there are fewer images.
    """
    best: dict[int, tuple[str, str]] = {}  # image id -> rank and text of its caption
    for entry in captions:
        if text := " ".join(str(entry["caption"]).split()):
            ranked = _rank(seed, entry["id"]), text
            best[entry["image_id"]] = min(best.get(entry["image_id"], ranked), ranked)
    if len(best) < count:
        raise MissingAssetError(f"there are captions of {len(best)} images, not of {count}")
    drawn = sorted(best, key=lambda image: _rank(seed, image))[:count]
    return {image: best[image][1] for image in sorted(drawn)}


def _rank(seed: int, identity: int) -> str:
    return hashlib.sha256(f"{seed}/{identity}".encode()).hexdigest()


def _captions(archive: Path) -> list[dict]:
    given.check(archive)
    if wrong := mismatch(RemoteFile(archive.name, ADDRESS, digest=SHA256), archive):
        raise UsageError(
            f"is not COCO's archive: {wrong}", place=str(archive), fix=f"see {ADDRESS}"
        )
    with (
        given.decoding(str(archive), "is damaged"),
        zipfile.ZipFile(archive) as content,
        content.open(MEMBER) as member,
    ):
        return json.load(member)["annotations"]
