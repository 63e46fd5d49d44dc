"""Arguments of a pipeline's call, KEY=VALUE on a command line: read, checked, and written again."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints import catalog, pipeline
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import UsageError

if TYPE_CHECKING:
    from skipdit_cli.run import Run

MOST_TOLD = 4  # prompts


def parse(given: list[str] | None) -> dict[str, Any]:
    """KEY=VALUE texts as arguments of a call: numbers, true, false, null, lists, else text.

    >>> parse(["height=512", "negative=blurry"])
    {'height': 512, 'negative': 'blurry'}
    """
    found: dict[str, Any] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not (equals and value and re.fullmatch(r"[A-Za-z_]\w*", key)):
            raise UsageError(f"'{text}' is not KEY=VALUE", place="--call", fix="as height=512")
        if key in found:
            raise UsageError(f"{key} is given twice", place="--call", fix="give it once")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def settings(run: "Run") -> dict[str, Any]:
    """What a run of a pipeline is called with beyond its card, as `make_run` takes it."""
    call = differing(run.card) if run.card.pipeline else {}
    return {"call": call} if call else {}


def differing(card: Card) -> dict[str, Any]:
    """Arguments of a pipeline's call that its own card has not."""
    own = catalog.card(card.name).arguments
    return {key: value for key, value in card.arguments.items() if own.get(key) != value}


def beside(card: Card, texts: str | Sequence[str] | None) -> list[str]:
    """What a command about a pipeline has to say beside its settings: call and prompts.

    Args:
        texts: the prompts, or the name of their list.
    """
    if not card.pipeline:
        return []
    words = written(differing(card))
    if card.prompts == texts:
        return words
    if isinstance(texts, str):
        return [*words, "--prompts", texts]
    return words + [word for text in (texts or ())[:MOST_TOLD] for word in ("--prompt", text)]


def written(call: Mapping[str, Any]) -> list[str]:
    """Arguments of a call as words of a command line, which `parse` reads."""
    pairs = (
        (key, each if isinstance(each, str) else json.dumps(each)) for key, each in call.items()
    )
    return [word for key, text in pairs for word in ("--call", f"{key}={text}")]


def with_call(card: Card, call: Mapping[str, Any], *, place: str = "--call") -> Card:
    """The card of a pipeline that is called with these arguments.

    Raises:
        UsageError: it is no pipeline, or its call does not take one of them.
    """
    if not call:
        return card
    if not card.pipeline:
        problem = f"{card.name} is no pipeline of diffusers, whose call takes arguments"
        raise UsageError(problem, place=place, fix="leave it out")
    pipeline.check_arguments(card.variant, call, place=place)
    return replace(card, arguments={**card.arguments, **call})
