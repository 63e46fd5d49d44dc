"""Pipelines of diffusers: what a folder or a hub's repository says of one, read and never run.

A pipeline is a folder with model_index.json, which names its class and the folders of its parts; a
repository of the hub is such a folder in the cache of huggingface_hub. Its class is one of
diffusers, its parts are of diffusers and transformers: code that a repository brings is not run.
"""

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from skipdit_cli.checkpoints.card import PIPELINE, Card, Sampling
from skipdit_cli.embedded.shipped import home
from skipdit_cli.errors import MissingAssetError, StoreError, UsageError
from skipdit_cli.storage import given, kept
from skipdit_cli.storage.disk import write_whole

INDEX = "model_index.json"
WEIGHTS = (".safetensors", ".bin")
CONFIGS = (".json", ".txt", ".model", ".jinja")  # of these a plan is made
AGAIN = "save or download the pipeline again"
MOST = 1_000_000  # bytes of a model_index.json
FACTS = kept.Kind("facts of a pipeline's class", 5)
LIBRARIES = ("diffusers", "transformers")
WORD = "a picture"  # the prompt of a call where there is none
HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
# Arguments of a call that are a run's own settings, or would change what it is.
OURS = {
    *("prompt", "negative_prompt", "num_inference_steps", "generator", "latents", "output_type"),
    *("return_dict", "num_images_per_prompt", "num_videos_per_prompt", "timesteps", "sigmas"),
}


@dataclass(frozen=True)
class Facts:
    """What the signature of a pipeline's call says.

    Attributes:
        steps, guidance: the defaults; guidance None where it has none.
        scale: the keyword of the guidance; "" where there is none.
        off: the guidance that is none.
        clip: whether it makes clips.
        negative: whether it takes a negative prompt.
        lists: whether it takes a generator for each sample.
        keywords: all that it takes.
        numbers: those that are numbers, and not true or false.
        required: those that have no default.
    """

    steps: int
    guidance: float | None
    scale: str
    off: float
    clip: bool
    negative: bool
    lists: bool
    keywords: tuple[str, ...]
    numbers: tuple[str, ...]
    required: tuple[str, ...]


def locate(name: str) -> Path | None:
    """The folder of a pipeline: itself, or that of a repository in the hub's cache; else None."""
    folder = Path(name)
    if (folder / INDEX).is_file():
        return folder
    if folder.exists() or not HUB.fullmatch(name):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, INDEX)
    return Path(found).parent if isinstance(found, str) else None


def is_one(name: str) -> bool:
    """Whether a name is that of a pipeline that is here."""
    return locate(name) is not None


def card(name: str, *, place: str = "") -> Card:
    """The card of a pipeline.

    Args:
        name: of a folder, or a repository.
    Raises:
        MissingAssetError: it is a repository that is not here.
        UsageError: there is no such folder, or it cannot be driven.
    """
    folder = locate(name)
    if folder is None:
        raise _absent(name, place=place)
    said = index(folder)
    known = facts(said["_class_name"], place=str(folder / INDEX))
    if more := [each for each in known.required if each != "prompt"]:
        problem = f"{said['_class_name']} takes {', '.join(more)}, which no prompt list has"
        raise UsageError(problem, place=place or name, fix="take a pipeline of prompts alone")
    if "prompt" not in known.keywords or not known.steps:
        problem = f"{said['_class_name']} takes no prompt or no number of steps"
        raise UsageError(problem, place=place or name, fix="take a pipeline of prompts")
    return Card(
        name=name,
        family=PIPELINE,
        task="t2v" if known.clip else "t2i",
        variant=said["_class_name"],
        skip=False,
        sampling=Sampling(_class_of(said, "scheduler"), str(known.steps), known.guidance),
        source=name,
        folder=str(folder),
        licence="",
    )


def _absent(name: str, *, place: str) -> UsageError | MissingAssetError:
    folder = Path(name)
    if folder.is_dir():
        problem = f"{name} is a folder without {INDEX}"
        return UsageError(problem, place=place, fix="give the folder that save_pretrained wrote")
    if folder.exists() or not HUB.fullmatch(name):
        fix = "give such a folder, OWNER/NAME of the hub, or flow-digits"
        return UsageError(f"{name} is no folder of a pipeline", place=place, fix=fix)
    return MissingAssetError(
        f"the pipeline {name} is not here",
        fix=f"run `skipdit download --pipeline {name}`, or with --configs for a plan alone",
    )


def index(folder: Path) -> dict[str, Any]:
    """The content of a model_index.json.

    Raises:
        UsageError: it is not what diffusers writes, or names code that is not diffusers' or
            transformers'.
    """
    place = str(folder / INDEX)
    text = given.read_text(folder / INDEX, place=place, most=MOST)
    with given.decoding(place, "is not JSON"):
        content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("_class_name"), str):
        raise UsageError("names no class of a pipeline", place=place)
    for key, (library, class_name) in _parts(content).items():
        if library not in LIBRARIES and not _own(library, class_name):
            problem = f"{key} is code of {library}, and what a repository brings is not run"
            raise UsageError(problem, place=place, fix="take a pipeline of diffusers' own classes")
    return content


def _parts(said: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Name -> library and class of the parts that are there; other lists are settings."""
    return {
        key: (part[0], part[1])
        for key, part in said.items()
        if not key.startswith("_")
        and isinstance(part, list)
        and len(part) == 2
        and all(isinstance(each, str) for each in part)
    }


def _own(library: str, class_name: str) -> bool:
    """Whether that is a folder of diffusers' pipelines which has such a class."""
    from diffusers import pipelines

    found = getattr(getattr(pipelines, library, None), class_name, None)
    return library.isidentifier() and isinstance(found, type)


def class_of(library: str, class_name: str) -> Any:
    """The class of a part: of diffusers, of transformers, or of one of diffusers' pipelines."""
    import diffusers
    import transformers

    if library in LIBRARIES:
        return getattr({"diffusers": diffusers, "transformers": transformers}[library], class_name)
    return getattr(getattr(diffusers.pipelines, library), class_name)


def parts(folder: Path) -> dict[str, tuple[str, str]]:
    """The parts of a pipeline that are there: name -> library and class."""
    return _parts(index(folder))


def denoisers(folder: Path) -> tuple[str, ...]:
    """The names of the parts that denoise, in the order in which they take turns.

    Raises:
        UsageError: there are none that blocks can be found in.
    """
    found = tuple(name for name in parts(folder) if re.fullmatch(r"transformer(_\d+)?", name))
    if not found:
        problem = f"{index(folder)['_class_name']} has no transformer"
        raise UsageError(problem, place=str(folder / INDEX), fix="take one that has")
    return found


def transformer(folder: Path) -> Any:
    """The first part that denoises, with its weights, in float32.

    Raises:
        OSError: the weights are not there, or damaged.
    """
    import torch

    name = denoisers(folder)[0]
    return class_of(*parts(folder)[name]).from_pretrained(
        folder / name, dtype=torch.float32, local_files_only=True
    )


def config(folder: Path, part: str) -> dict[str, Any]:
    """The configuration of a part."""
    names = ("config.json", "scheduler_config.json", "preprocessor_config.json")
    path = next((folder / part / name for name in names if (folder / part / name).is_file()), None)
    if path is None:
        raise MissingAssetError(f"the configuration of {part} is not in {folder}", fix=AGAIN)
    with given.decoding(str(path), "is not JSON"):
        content = json.loads(given.read_text(path, place=str(path)))
    return dict(content)


def is_config(name: str) -> bool:
    """Whether a file of a part is of its configuration or its vocabulary, by its name."""
    return name.endswith(CONFIGS) and ".index." not in name


def lacking(folder: Path) -> list[str]:
    """The parts whose weights are not here, or not all shards of them."""
    modules = [
        name for name in parts(folder) if re.match("transformer|vae|text_encoder|image_enc", name)
    ]
    return [name for name in modules if not _weights(folder / name)]


def _weights(folder: Path) -> bool:
    files = {each.name for each in folder.glob("*") if each.suffix in WEIGHTS}
    index = next(folder.glob("*.index.json"), None)
    if index is None or not files:
        return bool(files)
    with given.decoding(str(index), "is not an index of weights"):
        shards = set(json.loads(index.read_bytes())["weight_map"].values())
    return shards <= files


def facts(class_name: str, *, place: str = "") -> Facts:
    """What the call of a class of diffusers takes; remembered, as diffusers is slow to import.

    Raises:
        UsageError: diffusers has no such class.
    """
    of = f"{class_name} {FACTS.version} {metadata.version('diffusers')}"
    key = hashlib.sha256(of.encode()).hexdigest()[:16]
    record = home() / "pipelines" / f"{key}.json"
    with suppress(StoreError), kept.damaged_is_absent():
        known = kept.read_json(
            record, lambda content: kept.shaped(Facts, _tuples(content)), FACTS, of=key
        )
        if known is not None:
            return known
    found = _facts(class_name, place=place)
    with suppress(StoreError):
        write_whole(record, kept.sealed_json(asdict(found), FACTS, of=key))
    return found


def _tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
    }


def _facts(class_name: str, *, place: str) -> Facts:
    kind = pipeline_class(class_name, place=place)
    call = inspect.signature(kind.__call__).parameters
    hints: dict[str, Any] = {}
    with suppress(Exception):  # names that only type checkers see
        hints = get_type_hints(kind.__call__)
    number = {
        name: float(call[name].default)
        for name in ("guidance_scale", "true_cfg_scale")
        if name in call and isinstance(call[name].default, int | float)
    }
    scale = next(iter(number), "")
    steps = call["num_inference_steps"].default if "num_inference_steps" in call else 0
    return Facts(
        steps=int(steps or 0),
        guidance=number.get(scale),
        scale=scale,
        off=_off(kind),
        clip=not {"num_frames", "video_length", "frames"}.isdisjoint(call),
        negative="negative_prompt" in call,
        lists="generator" in call and "ist[" in str(call["generator"].annotation),
        keywords=tuple(call)[1:],
        numbers=tuple(name for name in call if _is_number(hints.get(name))),
        required=tuple(
            name
            for name, each in [*call.items()][1:]
            if each.default is each.empty and each.kind is not each.VAR_KEYWORD
        ),
    )


def _is_number(hint: Any) -> bool:
    """Whether an annotation takes numbers, and perhaps nothing, but no text, list or switch."""
    several = get_origin(hint) in (Union, UnionType)
    taken = {*(get_args(hint) if several else (hint,))} - {type(None)}
    return bool(taken) and taken <= {int, float}


def check_arguments(class_name: str, call: Mapping[str, Any], *, place: str) -> None:
    """Raise a UsageError where the call of a pipeline does not take some arguments."""
    known = facts(class_name)
    for key, value in call.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            problem = f"{key} cannot be '{value}'"
            raise UsageError(problem, place=place, fix="give finite numbers") from None
        if not isinstance(key, str):
            raise UsageError(
                f"'{key}' is no name of an argument", place=place, fix="as height: 512"
            )
        if _reserved(key, known):
            fix = _own_option(key, known)
            raise UsageError(f"{key} cannot be given here", place=place, fix=fix)
        if key not in known.keywords:
            taken = [each for each in known.keywords if not _reserved(each, known)]
            near = get_close_matches(key, taken, 1)
            fix = f"did you mean {near[0]}?" if near else f"it takes {', '.join(taken)}"
            raise UsageError(f"{class_name} takes no {key}", place=place, fix=fix)
        number = isinstance(value, int | float | None) and not isinstance(value, bool)
        if key in known.numbers and not number:
            raise UsageError(f"{key} cannot be '{value}'", place=place, fix="give a number")


def _reserved(key: str, known: Facts) -> bool:
    """Whether an argument is a run's own."""
    return key in {*OURS, known.scale} or key.startswith(("callback", "prompt_emb"))


def _own_option(key: str, known: Facts) -> str:
    options = {
        "prompt": "--prompt",
        "negative_prompt": "--negative-prompt",
        "num_inference_steps": "--steps",
        "generator": "--seed",
        known.scale: "--guidance",
    }
    return f"give it with {options[key]}" if key in options else "leave it out"


def _off(kind: Any) -> float:
    """The guidance at which a pipeline takes itself for one without: 1, or 0 where 1 is some."""
    guided = getattr(kind, "do_classifier_free_guidance", None)
    if not isinstance(guided, property) or guided.fget is None:
        return 1.0
    with suppress(Exception):  # where it asks for more than its scale
        at_one, at_zero = (guided.fget(SimpleNamespace(_guidance_scale=g)) for g in (1.0, 0.0))
        return 0.0 if at_one and not at_zero else 1.0
    return 1.0


def pipeline_class(class_name: str, *, place: str = "") -> Any:
    """A pipeline's class of diffusers."""
    import diffusers

    found = getattr(diffusers, class_name, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        problem = f"diffusers {metadata.version('diffusers')} has no pipeline {class_name}"
        raise UsageError(problem, place=place, fix="install a version that has it")
    return found


def _class_of(said: Mapping[str, Any], part: str) -> str:
    return str((said.get(part) or [None, "none"])[1])
