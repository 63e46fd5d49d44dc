"""skipdit ls"""

from typing import Annotated

import typer

from skipdit_cli.cli import _options as options
from skipdit_cli.cli import app
from skipdit_cli.cli._output import show, show_json, table

TASKS = {
    "c2i": "class-to-image",
    "c2v": "class-to-video",
    "t2v": "text-to-video",
    "t2i": "text-to-image",
}
KINDS = ("models", "caches", "metrics", "recipes")


@app.command()
def ls(
    kind: Annotated[str | None, typer.Argument(help="models, caches, metrics or recipes.")] = None,
    json: options.Json = False,
) -> None:
    """List models, caches, metrics and recipes, one line each."""
    from skipdit_cli.errors import unknown

    if kind is not None and kind not in KINDS:
        raise unknown("list", kind, KINDS)
    lists = {each: _rows(each) for each in ([kind] if kind else KINDS)}
    if json:
        show_json({k: [{"name": n, "summary": s} for n, s in rows] for k, rows in lists.items()})
        return
    show("\n\n".join(table((each, ""), rows) for each, rows in lists.items()))


def _rows(kind: str) -> list[tuple[str, str]]:
    from skipdit_cli import recipe, registry, weights

    if kind == "recipes":
        return [(name, recipe.summary(name)) for name in recipe.names()]
    if kind == "models":
        return [(card.name, _describe(card)) for card in weights.CARDS.values()]
    return [(name, registry.summary(kind, name)) for name in registry.names(kind)]


def _describe(card) -> str:
    from skipdit_cli import weights

    task = TASKS[card.task]
    labels = "" if card.num_classes or card.text else ", unconditional"
    skip = " with skip branches" if card.skip and not card.native_skip else ""
    if card.embedded:
        where = "embedded"
    elif weights.locate(card):
        where = "here"
    else:
        where = f"download {weights.size_text(card.size)}"
    return f"{task}{labels}: {card.variant}{skip} ({where})"
