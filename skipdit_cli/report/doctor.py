"""Doctor: what of an installation works, and what fetches the rest.

A check is what is looked at, its state and details: "ok", "absent" (can be fetched), "incomplete",
"tiny only" (of a recipe) or "broken" (has to be repaired).
"""

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli.errors import MissingAssetError, SkipditError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from skipdit_cli.checkpoints.card import Card

Check = tuple[str, str, str]  # what, its state, details
PACKAGES = (
    *("torch", "diffusers", "transformers", "sentencepiece", "protobuf"),
    *("huggingface_hub", "safetensors"),
)


def checks(results: Path) -> Iterator[Check]:
    """Everything that is checked, in the order in which it is shown.

    Args:
        results: the results folder; the check is only whether it can be written.
    """
    yield from environment()
    yield from embedded()
    yield folder(results)
    yield from settings()
    yield from checkpoints()
    yield from metrics()
    yield from real_clips()
    yield vbench()
    yield from recipes()


def require(outcomes: Iterable[Check]) -> None:
    """Raise a SkipditError that names every broken check, if there is any."""
    if broken := [check for check, state, _ in outcomes if state == "broken"]:
        raise SkipditError(f"{len(broken)} checks failed: {', '.join(broken)}")


def environment() -> list[Check]:
    """Versions of the packages, and the device."""
    from importlib import metadata

    from skipdit_cli.storage.provenance import collect

    facts = collect(import_torch=True)
    rows = [(name, "ok", str(facts[name])) for name in ("skipdit", "python")]
    for name in PACKAGES:
        try:
            rows.append((name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append((name, "broken", "missing; install the package again"))
    if any(check == "torch" and state == "ok" for check, state, _ in rows):
        rows.append(("device", "ok", f"{_gpu() or facts['device']}, {facts['threads']} threads"))
    return rows


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def settings() -> list[Check]:
    """Where downloads go, and how huggingface_hub is set, as it will act."""
    import shutil

    from huggingface_hub import constants

    from skipdit_cli.checkpoints import local
    from skipdit_cli.checkpoints._fetch import existing

    home = local.home()
    free = local.size_text(shutil.disk_usage(existing(home)).free)
    offline = "set: nothing is fetched" if constants.HF_HUB_OFFLINE else "not set"
    return [
        ("SKIPDIT_HOME", "ok", f"{home}, {free} free"),
        ("HF_HOME", "ok", f"{constants.HF_HOME}, cache {constants.HF_HUB_CACHE}"),
        ("HF_ENDPOINT", "ok", constants.ENDPOINT),
        ("HF_HUB_OFFLINE", "ok", offline),
    ]


def embedded() -> list[Check]:
    """Whether the embedded models are whole and give numbers."""
    import torch

    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.checkpoints.inventory import lacking

    rows = []
    for card in catalog.cards().values():
        if not card.embedded:
            continue
        try:
            model, sample = _tried(card)
            sound = bool(torch.isfinite(sample).all())
            size = sum(parameter.numel() for parameter in model.parameters())
            detail = f"{size / 1e6:.2f} M parameters"
            if bad := [f"{part.name} {part.state}" for part in lacking(card)]:
                sound, detail = False, f"{', '.join(bad)}; install the package again"
            rows.append((card.name, "ok" if sound else "broken", detail))
        except Exception as error:
            rows.append((card.name, "broken", str(error)))
    return rows


def _tried(card: "Card") -> "tuple[nn.Module, Tensor]":
    """The network of a model, or the transformer of a pipeline, and what one call of it gives."""
    import torch

    from skipdit_cli.checkpoints import hollow, networks, pipeline
    from skipdit_cli.checkpoints.untouched import zeros

    if card.pipeline:
        place, call = Path(card.folder), {**card.arguments, "num_inference_steps": 1}
        given = zeros(hollow.trace(place, call).inputs)
        with torch.no_grad():
            model = pipeline.transformer(place)
            return model, model(**given)[0]
    model = networks.load(card)
    with torch.no_grad():
        return model, model(**model.inputs(1), return_dict=False)[0]


def folder(results: Path) -> Check:
    """Whether the results folder can be written."""
    from skipdit_cli.storage.disk import check_writable

    try:
        check_writable(results)
    except SkipditError as error:
        return ("results folder", "broken", str(error))
    return ("results folder", "ok", str(results))


def checkpoints() -> list[Check]:
    """Denoiser and components of every released checkpoint, and what fetches those that lack."""
    from skipdit_cli.checkpoints import catalog, licences, local
    from skipdit_cli.checkpoints.inventory import parts

    rows = []
    for card in catalog.CARDS.values():
        if card.embedded:
            continue
        card_parts = parts(card)
        lacking = [part for part in card_parts if part.state != "here"]
        by_state: dict[str, list[str]] = {}
        for part in card_parts:
            told = f"{part.name} ({part.detail})" if part.detail else part.name
            by_state.setdefault(part.state, []).append(told)
        detail = "; ".join(f"{', '.join(names)} {state}" for state, names in by_state.items())
        if lacking:
            size = local.size_text(sum(part.size for part in lacking))
            detail += f": {licences.command(card.name, [card.licence])} (about {size})"
        rows.append((card.name, _state(by_state), detail))
    return rows


def metrics() -> list[Check]:
    """What metrics need from outside, and what fetches it."""
    from skipdit_cli.assets import assets
    from skipdit_cli.checkpoints import licences, local

    rows = []
    for name, asset in assets.declared().items():
        state, damage = assets.state(asset)
        detail = f"{asset.what}, for {', '.join(assets.users(asset))}"
        if state != "here":
            detail += f"; damaged ({damage})" if damage else ""
            command = licences.command(f"--metrics {name}", [asset.licence])
            detail += f": {command} ({local.size_text(asset.size)})"
        rows.append((f"metrics: {name}", _state({state}), detail))
    return rows


def real_clips() -> list[Check]:
    """The references that are made of real clips."""
    from skipdit_cli.assets import clips as on_hub
    from skipdit_cli.score import real_clips as clips

    rows = []
    for name, dataset in clips.DATASETS.items():
        states = {}
        for protocol in dataset.preparations:
            try:
                clips.path(f"{name}/{protocol}")
                states[protocol] = "here"
            except MissingAssetError:
                states[protocol] = "absent"
        detail = "real clips, for fvd, fvd@latte, fid@frames"
        if "absent" in states.values():
            detail += f": {on_hub.fetching(name)}"
        rows.append((f"metrics: {name}", _state(states.values()), detail))
    return rows


def vbench() -> Check:
    """Whether VBench has its environment."""
    from skipdit_cli import registry

    try:
        return ("metrics: vbench", "ok", str(registry.load("metrics", "vbench").environment()))
    except MissingAssetError as error:
        return ("metrics: vbench", "absent", str(error))


def _state(states: Container[str]) -> str:
    """The state of several parts: broken if any is damaged, incomplete if not all are here."""
    if "damaged" in states:
        return "broken"
    if "absent" not in states:
        return "ok"
    return "incomplete" if "here" in states else "absent"


def recipes() -> list[Check]:
    """What each recipe lacks at paper scale, and the one command that fetches it."""
    from skipdit_cli.assets import assets, lists
    from skipdit_cli.checkpoints import catalog, local
    from skipdit_cli.checkpoints import licences as licence
    from skipdit_cli.checkpoints.inventory import DENOISER, lacking
    from skipdit_cli.recipe import needs, recipe

    rows = []
    for name in recipe.names():
        try:
            loaded = recipe.load_recipe(name, scale=recipe.scales(name)[-1])
        except SkipditError as error:
            rows.append((f"recipe {name}", "broken", str(error)))
            continue
        short: dict[str, list[str]] = {}  # what is lacking, and of a model which parts
        sizes = {}  # by folder: models share components
        licences = []
        for need in needs.checkpoints(loaded):
            if need in lists.NAMES:
                if lists.state(need) != "here":
                    short[need], sizes[lists.path(need)] = [], lists.size(need)
            elif parts := lacking(catalog.card(need)):
                whole = parts[0].name == DENOISER
                short[need] = [] if whole else [part.name for part in parts]
                sizes |= {part.folder: part.size for part in parts}
                licences.append(catalog.card(need).licence)
        state = "tiny only" if short else "incomplete"  # without metrics it can still generate
        for asset in needs.assets(loaded):
            if assets.state(asset)[0] != "here":
                short[asset.name], sizes[assets.folder(asset)] = [], asset.size
                licences.append(asset.licence)
        if short:
            what = ", ".join(
                f"{need} ({', '.join(parts)})" if parts else need for need, parts in short.items()
            )
            size = local.size_text(sum(sizes.values()))
            command = licence.command(f"--recipe {name}", licences)
            rows.append((f"recipe {name}", state, f"lacks {what}: {command} (about {size})"))
        else:
            rows.append((f"recipe {name}", "ok", "both scales can run"))
    return rows
