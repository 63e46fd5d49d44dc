"""What has to be downloaded before a recipe can run."""

from skipdit_cli.assets import lists
from skipdit_cli.assets.assets import for_metric
from skipdit_cli.checkpoints import catalog
from skipdit_cli.checkpoints.card import RANDOM
from skipdit_cli.metrics import Asset
from skipdit_cli.recipe.shape import Recipe


def checkpoints(recipe: Recipe) -> tuple[str, ...]:
    """The names that `skipdit download` takes: models and lists of prompts."""
    needs = {}
    for row in recipe.rows:
        for model in row.models.values():
            card = catalog.card(model)
            given = {**recipe.settings, **row.settings}
            if given.get("weights") == RANDOM:
                continue
            needs[model] = True
            listed = given.get("prompts", card.prompts)
            if card.text and listed in lists.NAMES:
                needs[listed] = True
    return tuple(needs)


def assets(recipe: Recipe) -> tuple[Asset, ...]:
    """What the metrics of its columns need, but for those that cannot be measured yet."""
    metrics = [column.metric for column in recipe.columns if column.planned is None]
    return tuple(dict.fromkeys(asset for metric in metrics for asset in for_metric(metric)))
