"""The shape of a recipe: a table at one scale, its columns and its rows."""

from dataclasses import dataclass, field
from typing import Any

from skipdit_cli import registry
from skipdit_cli.cache import CacheSpec, no_cache
from skipdit_cli.checkpoints.card import RANDOM

ENGINES = ("local", "ray", "slurm")  # where batches are computed


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Attributes:
        key: the CSV column of the paper's value; any other name where the paper has none.
        label: heading.
        metric: a name in metrics/ or one of COSTS; `macs_share` is MACs over those of the same run
            without cache.
        group: the data set; "" for what does not depend on one, and for costs of that of `profile`.
        unit: of the values ("dB", "T", "s").
        better: "higher", "lower" or "".
        tolerance: largest relative difference from the paper that counts as a match.
        planned: why it cannot be measured yet, or None.
    """

    key: str
    label: str
    metric: str
    group: str = ""
    unit: str = ""
    better: str = ""
    tolerance: float = 0.05
    planned: str | None = None


@dataclass(frozen=True)
class RecipeRow:
    """One row: one model and cache per group.

    Attributes:
        id: unique in the recipe.
        label: what the table prints.
        models: group -> model name.
        cache: as written, the method `none` for the uncached model.
        published: key columns that find the row's line in the CSV; empty where there is none.
        planned: why it cannot be run yet, or None.
        settings: what differs from the recipe's settings.
        text_tokens: of a prompt, as the published FLOPs count them; None is the model's own number.
        fewer_steps: group -> the number of uncached steps, scored against all steps of the model;
            empty where the row is no such run.
        difference: ids of two rows, whose scores are compared in pairs: the first's minus the
            second's. Such a row has no runs of its own.
    """

    id: str
    label: str
    models: dict[str, str] = field(default_factory=dict)
    cache: CacheSpec = field(default_factory=no_cache)
    published: dict[str, str] = field(default_factory=dict)
    planned: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    text_tokens: int | None = None
    fewer_steps: dict[str, int] = field(default_factory=dict)
    difference: tuple[str, str] | None = None


@dataclass(frozen=True)
class Recipe:
    """A table at one scale.

    Attributes:
        name: of the file, without ending.
        table: the published table it reproduces ("table1") or None.
        paper: `command`, `headline` number and `hardware` of the published run.
        settings: any of SETTINGS; `profile`, what the cost columns are about where that differs
            (any of PROFILE), and `timing`, what timings are about where that differs from
            `profile`. A setting left out is the model's own default; guidance None is no guidance.
        paper_only: labels of the published columns that this scale does not measure.
        engine: one of ENGINES, where batches are computed if the command does not say; or "".
    """

    name: str
    table: str | None
    title: str
    scale: str
    rows: tuple[RecipeRow, ...]
    columns: tuple[Column, ...]
    settings: dict[str, Any]
    paper: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    paper_only: tuple[str, ...] = ()
    engine: str = ""

    @property
    def folder(self) -> str:
        """Where its table lies under a results folder; that of a dry run lies by itself."""
        dry = self.settings.get("weights") == RANDOM
        return f"{RANDOM}/{self.scale}" if dry else self.scale

    @property
    def scored(self) -> list[Column]:
        """The columns that a metric scores now, without costs and what is planned."""
        known = [each for each in self.columns if registry.known("metrics", each.metric)]
        return [each for each in known if each.planned is None]
