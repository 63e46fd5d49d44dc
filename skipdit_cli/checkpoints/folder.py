"""A model in a folder of one's own, named by its path: what `train` leaves, and what it means.

config.json                              the network, as diffusers writes it
diffusion_pytorch_model.safetensors      its weights
card.json                                what a Card says beyond them, to be read and edited

card.json is plain JSON that nobody seals: each of its fields is checked when it is read, and the
network that it describes has to be that of config.json. Nothing in the folder is ever run.
"""

import hashlib
import inspect
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.checkpoints import networks, pipeline
from skipdit_cli.checkpoints.card import EMBEDDED, Card, Component, Sampling, by_path
from skipdit_cli.embedded.shipped import home
from skipdit_cli.errors import StoreError, UsageError, placed, unknown
from skipdit_cli.precision import PRECISIONS
from skipdit_cli.storage import given, kept
from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from skipdit_cli.models import Network

CARD, CONFIG = "card.json", "config.json"
MOST = 1_000_000  # bytes of either
CHECKED = kept.Kind("checked card", 1)
TASKS = ("c2i", "c2v", "t2v", "t2i")
SHAPE: dict[str, Any] = {  # of card.json
    **dict.fromkeys(("family", "task", "variant"), str),
    "skip": bool,
    "arguments": dict[str, Any],
    "sampling": dict[str, Any],
    "components": dict[str, Any],
    "precisions": list[str],
    **dict.fromkeys(("prompts", "negative_prompt", "licence", "data"), str),
}
SAMPLING: dict[str, Any] = {
    **dict.fromkeys(("sampler", "steps"), str),
    "guidance": float | None,
    "betas": list[str | float],
    "prediction": str,
    "learned_variance": bool,
}
COMPONENT: dict[str, Any] = {"repository": str, "folder": str, "size": int}
COMPONENTS = ("vae", "tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
_WORDS = {
    str: "text in quotes",
    bool: "true or false",
    int: "a whole number",
    float | None: "a number or null",
    list[str]: "a list of texts",
    dict[str, Any]: "fields in braces",
}


def called(folder: Path) -> str:
    """The name of the model in a folder: its path, which always has a slash.

    One in the working directory has one name, however its path is written.

    >>> called(Path("results/train/mine/")), called(Path("digits")), called(Path.cwd() / "digits")
    ('results/train/mine', './digits', './digits')
    """
    whole, here = Path(os.path.abspath(folder)), Path.cwd()
    path = (whole.relative_to(here) if here in whole.parents else folder).as_posix()
    return path if by_path(path) else f"./{path}"


def write(folder: Path, chosen: Card) -> None:
    """Write the card.json of a folder.

    Args:
        chosen: what the model is; its name is not written, it will be the folder's path.
    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    content = {name: value for name, value in asdict(chosen).items() if name in SHAPE}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_whole(folder / CARD, f"{text}\n".encode())


def read(folder: Path, *, place: str = "") -> Card:
    """The card of the model in a folder; its weights need not be there.

    Args:
        folder: as a person named it.
        place: what errors name that are about the folder as a whole.
    Raises:
        UsageError: there is no such folder, card.json is absent or has a mistake, or it is not the
            card of the network in config.json.
    """
    name = called(folder)
    file, at = folder / CARD, f"{name}/{CARD}"
    if not os.path.exists(file):
        raise _no_card(folder, place=place)
    text = given.read_text(file, place=at, most=MOST)
    chosen = _card(_parsed(text, at), at, name=name, folder=folder)
    _check(chosen, at)
    return chosen


def of_pipeline(known: Card) -> Card:
    """The card of a pipeline with what a card.json in its folder says beyond it: steps, guidance,
    arguments of its call, prompts and data. Training writes one.

    Raises:
        UsageError: card.json has a mistake, or is that of another pipeline.
    """
    file, at = Path(known.folder) / CARD, f"{known.name}/{CARD}"
    if not os.path.exists(file):
        return known
    text = given.read_text(file, place=at, most=MOST)
    told = _fields(_parsed(text, at), SHAPE, ("family", "variant"), at)
    if (told["family"], told["variant"]) != (known.family, known.variant):
        problem = f"is the card of {told['variant']}, and the folder has a {known.variant}"
        raise UsageError(problem, place=at, fix="delete it")
    _check_data(told, at)
    sampling = _fields(told.get("sampling", {}), SAMPLING, (), f"{at} sampling")
    how = {name: sampling[name] for name in ("steps", "guidance") if name in sampling}
    if not re.fullmatch("[1-9][0-9]{0,3}", str(how.get("steps", 1))):
        problem, fix = f"steps cannot be '{how['steps']}'", 'write a number in quotes, as "28"'
        raise UsageError(problem, place=f"{at} sampling", fix=fix)
    _check_guidance(sampling, f"{at} sampling")
    if told.get("negative_prompt") and not pipeline.facts(known.variant).negative:
        problem = f"{known.variant} takes no negative prompt"
        raise UsageError(problem, place=f"{at} negative_prompt", fix="leave it out")
    pipeline.check_arguments(known.variant, told.get("arguments", {}), place=f"{at} arguments")
    names = ("arguments", "prompts", "negative_prompt", "data")
    return replace(
        known,
        sampling=replace(known.sampling, **how),
        **{name: told[name] for name in names if name in told},
    )


def _no_card(folder: Path, *, place: str) -> UsageError:
    name = called(folder)
    fix = "name a folder that training wrote, or one of `skipdit ls models`"
    if os.path.isdir(folder):
        return UsageError(f"{name} is a folder without {CARD}", place=place, fix=fix)
    if os.path.isfile(folder):
        fix = "name the model, and give the file with --weights"
        return UsageError(f"{name} is a file, not the folder of a model", place=place, fix=fix)
    return UsageError(f"there is no folder {name}", place=place, fix=fix)


def _parsed(text: str, place: str) -> Any:
    with given.decoding(place, "is not JSON"):
        return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _card(content: Any, place: str, *, name: str, folder: Path) -> Card:
    told = _fields(content, SHAPE, ("family", "task", "variant", "skip", "sampling"), place)
    _one_of("family", told["family"], registry.names("models"), place)
    _one_of("task", told["task"], TASKS, place)
    for precision in (precisions := told.get("precisions", PRECISIONS)):
        _one_of("precision", precision, PRECISIONS, place)
    if not precisions:
        raise UsageError(
            "precisions is empty", place=place, fix="name one or more, or leave it out"
        )
    _check_data(told, place)
    parts = told.get("components", {})
    return Card(
        **{
            **told,
            "name": name,
            "source": name,
            "folder": str(folder),
            "precisions": tuple(precisions),
            "sampling": _sampling(told["sampling"], f"{place} sampling"),
            "components": {
                _one_of("component", key, COMPONENTS, place): _component(
                    part, f"{place} components.{key}"
                )
                for key, part in parts.items()
            },
        }
    )


def _check_data(told: Mapping[str, Any], place: str) -> None:
    if by_path(told.get("data", "")):
        raise UsageError(f"data cannot be '{told['data']}'", place=place, fix="give a name or none")


def _sampling(content: Any, place: str) -> Sampling:
    told = _fields(content, SAMPLING, ("sampler", "steps"), place)
    _one_of("sampler", told["sampler"], registry.names("samplers"), place)
    _one_of("prediction", told.get("prediction", "epsilon"), ("epsilon", "v_prediction"), place)
    _check_guidance(told, place)
    if (guidance := told.get("guidance")) is not None:
        told["guidance"] = float(guidance)
    if (betas := told.get("betas")) is not None:
        told["betas"] = tuple(betas)
        rising = kept.fits(told["betas"], tuple[str, float, float]) and 0 < betas[1] < betas[2] < 1
        if not rising or betas[0] not in ("linear", "scaled_linear"):
            fix = 'write them as ["linear", 0.0001, 0.02] or ["scaled_linear", 0.00085, 0.02]'
            raise UsageError(f"betas cannot be {betas}", place=place, fix=fix)
    return Sampling(**told)


def _check_guidance(told: Mapping[str, Any], place: str) -> None:
    guidance = told.get("guidance")
    if guidance is not None and not 1 <= guidance < math.inf:
        problem = f"guidance cannot be {guidance}"
        raise UsageError(problem, place=place, fix="write 1 or more, or null for none")


def _component(content: Any, place: str) -> Component:
    told = _fields(content, COMPONENT, ("repository",), place)
    part = Component(**told)
    names = part.repository.split("/")
    outside = {"", ".", ".."} & {*names, *(part.folder.split("/") if part.folder else ())}
    if outside or "\\" in part.repository + part.folder or len(names) > 2:
        problem = f"cannot be {part.repository}, {part.folder}"
        raise UsageError(problem, place=place, fix="give OWNER/NAME, and a folder in it")
    if len(names) == 1 and part.repository != EMBEDDED:
        raise UsageError(
            f"repository cannot be '{part.repository}'", place=place, fix="write OWNER/NAME"
        )
    return part


def _fields(
    content: Any, shape: Mapping[str, Any], required: Iterable[str], place: str
) -> dict[str, Any]:
    """The fields of a mapping, those that are required and others, in their types."""
    if not isinstance(content, dict):
        raise UsageError("has no fields in braces", place=place, fix="see one that `train` wrote")
    for name, value in content.items():
        _one_of("field", name, shape, place)
        if not kept.fits(value, shape[name]):
            problem = f"{name} cannot be {_text(value)}"
            fix = f"write {_WORDS[shape[name]]}" if shape[name] in _WORDS else ""
            raise UsageError(problem, place=place, fix=fix)
    if absent := [name for name in required if name not in content]:
        raise UsageError(f"has no {', '.join(absent)}", place=place, fix="write what it is")
    return dict(content)


def _one_of(what: str, value: str, known: Collection[str], place: str) -> str:
    if value not in known:
        raise unknown(what, value, known, place=place)
    return value


def _check(chosen: Card, place: str) -> None:
    """Raise a UsageError unless a card describes the network of the config.json beside it, and
    its sampler takes its steps.

    That takes the network, and seconds to import torch; what was found right is remembered under
    `home`, so that `plan` and `report` need neither.
    """
    file, at = Path(chosen.folder) / CONFIG, f"{chosen.name}/{CONFIG}"
    config = given.read_text(file, place=at, most=MOST) if os.path.exists(file) else ""
    version = registry.version("models", chosen.family)
    said = [chosen.identity, chosen.task, sorted(chosen.components), config, version]
    said += [chosen.sampling.sampler, chosen.sampling.steps]
    key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
    record = home() / "folders" / f"{key}.json"
    with suppress(StoreError), kept.damaged_is_absent():
        if kept.read_json(record, dict, CHECKED, of=key) is not None:
            return
    with placed(f"{place} sampling"):
        registry.load("samplers", chosen.sampling.sampler).timesteps(chosen.sampling.steps)
    _check_network(chosen, place)
    if config:
        _compare(_parsed(config, at), networks.meta(chosen), at)
    with suppress(StoreError):
        write_whole(record, kept.sealed_json({}, CHECKED, of=key))


def _check_network(chosen: Card, place: str) -> None:
    family = registry.load("models", chosen.family, place=place)
    _one_of("variant", chosen.variant, family.VARIANTS, place)
    with given.decoding(place, "describes no network", fix="mend its variant, skip or arguments"):
        network = networks.meta(chosen)
        inputs = network.inputs(1, device="meta")
    task = "t2" if "encoder_hidden_states" in inputs else "c2"
    task += "v" if inputs["hidden_states"].dim() == 5 else "i"
    if chosen.task != task:
        problem = f"the task of {chosen.family} is {task}, not {chosen.task}"
        raise UsageError(problem, place=place, fix=f"write {task}")
    if chosen.skip != bool(network.layout().skips):
        problem = f"skip is {_text(chosen.skip)}, and {chosen.family} is not built so"
        raise UsageError(problem, place=place, fix=f"write {_text(not chosen.skip)}")
    tokens = family.tokens(networks.arguments(chosen))
    suffixes = [f"_{i + 1}" if i else "" for i in range(len(tokens))]
    needed = [f"{part}{suffix}" for suffix in suffixes for part in ("tokenizer", "text_encoder")]
    if absent := [key for key in needed if key not in chosen.components]:
        raise UsageError(f"components has no {', '.join(absent)}", place=place, fix="add them")


def _compare(told: Any, network: "Network", place: str) -> None:
    """Raise a UsageError unless a config.json is that of a network."""
    if not isinstance(told, dict):
        raise UsageError("is not what diffusers writes of a network", place=place)
    parameters = inspect.signature(type(network).__init__).parameters
    usual = {name: each.default for name, each in parameters.items() if name in network.config}
    class_name = type(network).__name__
    own = _plain({name: network.config[name] for name in usual} | {"_class_name": class_name})
    said = _plain(usual | {"_class_name": class_name}) | told
    for name in sorted(name for name in said if name in own or not name.startswith("_")):
        if name not in own:
            fix = f"see the family in {CARD}"
            raise UsageError(f"{name} is nothing that {class_name} has", place=place, fix=fix)
        if said[name] != own[name]:
            raise UsageError(
                f"{name} is {_text(said[name])}, and by {CARD} it is {_text(own[name])}",
                place=place,
                fix=f"mend the variant, skip or arguments in {CARD}",
            )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """As it is when it comes back from JSON."""
    content: dict[str, Any] = json.loads(json.dumps(config, default=str))
    return content


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]
