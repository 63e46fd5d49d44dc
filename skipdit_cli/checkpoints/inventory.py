"""What of a checkpoint is here: its denoiser and its components, each sound, damaged or absent."""

import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

from skipdit_cli.checkpoints import catalog, local, pipeline
from skipdit_cli.checkpoints.card import Card

DENOISER = "denoiser"
COCO = "coco"  # the prompt list that is fetched rather than shipped
# How a file begins that a torch before 1.6 saved. It is no zip file, and where it should end cannot
# be seen from its head; torch, transformers and diffusers still read it.
_OLD_FORMAT = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_VOCABULARIES = ("tokenizer.json", "spiece.model", "vocab.txt", "vocab.json")


@dataclass(frozen=True)
class Part:
    """The denoiser of a checkpoint, or a component.

    Attributes:
        name: DENOISER, or the key among the card's components.
        state: "here", "absent" or "damaged".
        detail: what is wrong with a damaged part.
        folder: where the part is, or will be.
        size: bytes of the download, as far as they are known beforehand.
    """

    name: str
    state: str
    detail: str
    folder: Path
    size: int


def parts(card: Card) -> tuple[Part, ...]:
    """Denoiser and components. Only headers are read: a changed byte in a tensor goes unnoticed."""
    if card.pipeline:
        return _pipeline_parts(Path(card.folder))
    file = local.weights_file(card)
    listed = [_part(DENOISER, file.parent, card.size, present=file.is_file())]
    for key, component in card.components.items():
        present = local.component_path(component) is not None
        folder = local.component_folder(component)
        listed.append(_part(key, folder, component.size, present=present))
    return tuple(listed)


def _pipeline_parts(folder: Path) -> tuple[Part, ...]:
    """Those of a pipeline that have a configuration of their own kind: the scheduler has none."""
    return tuple(
        _part(name, folder / name, 0, present=(folder / name).is_dir())
        for name in pipeline.parts(folder)
        if name != "scheduler"
    )


def lacking(card: Card) -> list[Part]:
    """The parts that have to be fetched: absent or damaged."""
    return [part for part in parts(card) if part.state != "here"]


def remedy(folder: Path) -> str:
    """What brings a component back that is in this folder and cannot be loaded."""
    for card in catalog.cards().values():
        if folder in map(local.component_folder, card.components.values()):
            own = card.embedded or card.folder
            return "install it again" if own else f"delete it and run `{local.fetching(card)}`"
    return "fetch it again"


def coco_list() -> Path:
    """Where the prompt list of COCO captions is, or will be."""
    return local.home() / "prompts" / f"{COCO}.txt"


def _part(name: str, folder: Path, size: int, *, present: bool) -> Part:
    if not present:
        return Part(name, "absent", "", folder, size)
    detail = component_damage(name, folder)
    return Part(name, "damaged" if detail else "here", detail, folder, size)


def component_damage(name: str, folder: Path) -> str:
    """What is wrong with the folder of a component, or of a denoiser, or "" if nothing is."""
    return _tokenizer_damage(folder) if name.startswith("tokenizer") else _model_damage(folder)


def _model_damage(folder: Path) -> str:
    """What is wrong with a model's folder (config.json and weights, whole or in shards), or ""."""
    if damage := _json_damage(folder / "config.json"):
        return damage
    names: list[str] = []
    for kind in ("safetensors", "bin"):
        if index := next(folder.glob(f"*.{kind}.index.json"), None):
            if damage := _json_damage(index):
                return damage
            names = sorted(set(json.loads(index.read_bytes()).get("weight_map", {}).values()))
        names = names or sorted(path.name for path in folder.glob(f"*.{kind}"))
        if names:
            break
    if not names:
        return "there are no weights"
    return next((damage for name in names if (damage := _file_damage(folder / name))), "")


def _tokenizer_damage(folder: Path) -> str:
    """What is wrong with a tokenizer's folder, or ""."""
    vocabularies = [folder / name for name in _VOCABULARIES if (folder / name).is_file()]
    if not vocabularies:
        return "there is no vocabulary"
    checked = [folder / "tokenizer_config.json", *vocabularies]
    return next(
        (damage for path in checked if path.suffix == ".json" and (damage := _json_damage(path))),
        next((f"{path.name} is empty" for path in vocabularies if not path.stat().st_size), ""),
    )


def _file_damage(path: Path) -> str:
    """What is wrong with a weights file, seen from its header and its length, or ""."""
    if not path.is_file():
        return f"{path.name} is missing"
    if path.suffix != ".safetensors":
        with path.open("rb") as file:
            old = file.read(len(_OLD_FORMAT)) == _OLD_FORMAT
        sound = old or zipfile.is_zipfile(path)
        return "" if sound else f"{path.name} is cut off or not a checkpoint"
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            return ""
    except (SafetensorError, OSError) as error:
        return f"{path.name} is cut off or not safetensors ({error})"


def _json_damage(path: Path) -> str:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return f"{path.name} is missing"
    except (OSError, ValueError):
        return f"{path.name} cannot be read"
    return ""
