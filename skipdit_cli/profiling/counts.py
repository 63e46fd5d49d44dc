"""Counts: what is known of a checkpoint's network without its weights (`remembered.py`)."""

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from skipdit_cli import registry
from skipdit_cli.checkpoints import local, networks
from skipdit_cli.checkpoints.card import Card, Component
from skipdit_cli.profiling import traced
from skipdit_cli.profiling.cost import Cost, Costs, Decoding, Sizes
from skipdit_cli.profiling.remembered import remembered
from skipdit_cli.sites import Layout, Site


@functools.cache
def layout(card: Card) -> Layout:
    """What a cache may know of the network of a checkpoint."""
    if card.pipeline:
        return traced.layout_of(card, lambda: traced.blocks(card)[0].layout)
    return traced.layout_of(card, lambda: networks.meta(card).layout())


@functools.cache
def places(card: Card) -> int:
    """How many places the latents of one sample have: frames x height x width."""

    def count() -> int:
        network = networks.meta(card)
        latents = network.inputs(1, device="meta")["hidden_states"]
        return latents.numel() // latents.shape[network.CHANNEL_DIM]

    return remembered(card, "places", count)


@functools.cache
def sizes(card: Card) -> Sizes:
    """How much a network and one call of it hold, for one sample without guidance."""
    if card.pipeline:
        return traced.sizes(card)

    def count() -> dict[str, Any]:
        from skipdit_cli.profiling.live import sizes as counted

        tokens = registry.load("models", card.family).tokens(networks.arguments(card))
        return asdict(counted(networks.meta(card), tokens))

    found = remembered(card, "sizes", count)
    return Sizes(
        **{
            **found,
            "latents": tuple(found["latents"]),
            "sites": {kind: tuple(shape) for kind, shape in found["sites"].items()},
            "texts": tuple((tokens, width) for tokens, width in found["texts"]),
        }
    )


@functools.cache
def decoding(card: Card) -> Decoding | None:
    """What decoding one frame takes; nothing of a model that works on pixels.

    None where the autoencoder is known neither here nor on this machine.
    """
    if card.pipeline:
        return traced.decoding(card)
    if "vae" not in card.components:
        return Decoding()
    part, (height, width) = card.components["vae"], sizes(card).grid[-2:]
    folder = described(part)
    if folder is None:
        return None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    def count() -> dict[str, Any]:
        from skipdit_cli.profiling.live import decoding as counted

        return asdict(counted(config, (height, width)))

    known = json.dumps(config, sort_keys=True)
    return Decoding(**remembered(card, f"decoding {known}", count))


@functools.cache
def costs(card: Card, text_tokens: int | None = None) -> Costs:
    """What one call of a checkpoint's network costs for one sample, without guidance.

    Args:
        text_tokens: of a prompt; by default as many as the network's inputs for counting have.
    """

    def count() -> dict[str, Any]:
        from skipdit_cli.profiling.macs import site_costs

        if card.pipeline:
            return _to_json(traced.site_costs(card))
        network = networks.meta(card)
        inputs = network.inputs(1, device="meta")
        if text_tokens:
            inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"][:, :text_tokens]
        official = registry.load("models", card.family).official_calls(network)
        return _to_json(site_costs(network, inputs, official=official))

    return _from_json(remembered(card, f"costs {text_tokens or ''}", count))


def described(part: Component) -> Path | None:
    """A folder with the config.json of a component: one that ships, or that on this machine."""
    folders = (local.component_folder(each) for each in (local.configuration(part), part))
    return next((each for each in folders if (each / "config.json").is_file()), None)


def _to_json(counted: Costs) -> dict[str, Any]:
    return {
        "total": list(asdict(counted.total).values()),
        "sites": [[*site, *asdict(cost).values()] for site, cost in counted.sites.items()],
        "inside": [[*site, *outer] for site, outer in counted.inside.items()],
        "halves": counted.halves,
    }


def _from_json(content: dict[str, Any]) -> Costs:
    return Costs(
        total=Cost(*content["total"]),
        sites={Site(kind, layer): Cost(*numbers) for kind, layer, *numbers in content["sites"]},
        inside={Site(*each[:2]): Site(*each[2:]) for each in content["inside"]},
        halves=content["halves"],
    )
