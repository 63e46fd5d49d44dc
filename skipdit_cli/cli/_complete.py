"""What the shell offers for an argument: names, listed without importing anything heavy."""

from collections.abc import Iterable
from glob import escape, glob
from pathlib import Path

KINDS = ("models", "caches", "samplers", "metrics", "recipes")
RUNS = "runs"  # in a results folder; listed only where they are asked for
STUDIES = "studies"  # likewise


def _begin(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _last(names: Iterable[str], incomplete: str) -> list[str]:
    """Names for the last part of a list that is separated by commas."""
    done, comma, part = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in _begin(names, part)]


def models(incomplete: str) -> list[str]:
    """The models, and the folders of one's own: those in the usual place, and what begins so."""
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.checkpoints.folder import CARD

    trained = (str(path.parent) for path in Path("results/train").glob(f"*/{CARD}"))
    found = [path for path in glob(f"{escape(incomplete)}*/") if incomplete]
    own = {path.rstrip("/") if Path(path, CARD).is_file() else path for path in found}
    return [*_begin(catalog.cards(), incomplete), *sorted({*own, *_begin(trained, incomplete)})]


def caches(incomplete: str) -> list[str]:
    """The caching methods."""
    from skipdit_cli import registry

    return _begin(registry.names("caches"), incomplete)


def methods(incomplete: str) -> list[str]:
    """Caching methods, separated by commas."""
    from skipdit_cli import registry

    return _last(registry.names("caches"), incomplete)


def metrics(incomplete: str) -> list[str]:
    """Metrics, separated by commas."""
    from skipdit_cli import registry

    return _last(registry.names("metrics"), incomplete)


def samplers(incomplete: str) -> list[str]:
    """The samplers."""
    from skipdit_cli import registry

    return _begin(registry.names("samplers"), incomplete)


def recipes(incomplete: str) -> list[str]:
    """The recipes, and YAML files that begin so."""
    from skipdit_cli.recipe import recipe

    files = (path for path in glob(f"{escape(incomplete)}*") if path.endswith((".yaml", ".yml")))
    return [*_begin(recipe.names(), incomplete), *sorted(files)]


def targets(incomplete: str) -> list[str]:
    """The recipes, and the keys of runs in the usual results folder."""
    return [*recipes(incomplete), *runs(incomplete)]


def runs(incomplete: str) -> list[str]:
    """The keys of runs in the usual results folder."""
    found = sorted(path.parent.name for path in Path("results/samples").glob("*/run.json"))
    return _begin(found, incomplete)


def downloads(incomplete: str) -> list[str]:
    """The models and prompt lists that can be fetched, training clips, and the recipes."""
    from skipdit_cli.assets import lists
    from skipdit_cli.assets.clips import TRAINING
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.recipe import recipe

    cards = [card.name for card in catalog.cards().values() if not card.embedded]
    return _begin([*cards, *lists.NAMES, TRAINING, *recipe.names()], incomplete)


def kinds(incomplete: str) -> list[str]:
    """What `skipdit ls` lists."""
    return _begin((*KINDS, RUNS, STUDIES), incomplete)


def studies(incomplete: str) -> list[str]:
    """The studies in the usual results folder."""
    found = sorted(path.parent.name for path in Path("results/sweeps").glob("*/study.json"))
    return _begin(found, incomplete)


def reported(incomplete: str) -> list[str]:
    """The recipes, the studies, and the command for trainings."""
    return [*recipes(incomplete), *studies(incomplete), *_begin(["training"], incomplete)]


def trainings(incomplete: str) -> list[str]:
    """The folders of trainings that were scored, in the usual place."""
    found = sorted(path.parent for path in Path("results/train").glob("*/scores.jsonl"))
    return _begin(map(str, found), incomplete)
