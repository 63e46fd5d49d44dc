"""Recipes: a table of the paper, or one of your own, as a YAML file.

    title, table            what it is; the table of results/published that it is put beside
    paper                   what the published numbers took (command, headline, hardware)
    notes                   sentences that belong under the table
    scales.tiny / .paper    groups (data set -> base model), settings, columns; one of them will do
    rows                    id, label, published (key columns of the CSV line), model ("{model}" is
                            the base model of the group), cache, settings, planned; fewer_steps: 28,
                            or {group: 28}, an uncached run of so many steps that is scored against
                            all steps; difference: [A, B], row A minus row B, in pairs, no model

`cache`, `settings` and `fewer_steps` of a row may be written once or per scale. Loading checks all
its scales and reports every mistake of the file at once; it needs no model and no torch.
"""

import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from skipdit_cli import registry
from skipdit_cli.cache import no_cache
from skipdit_cli.embedded import shipped
from skipdit_cli.errors import SkipditError, UsageError, unknown
from skipdit_cli.recipe import prompts, published, yaml_file
from skipdit_cli.recipe.settings import SETTINGS, setting
from skipdit_cli.recipe.shape import ENGINES, Column, Recipe, RecipeRow
from skipdit_cli.recipe.yaml_file import Mistakes
from skipdit_cli.spec import parse_cache
from skipdit_cli.storage import given

SCALES = ("tiny", "paper")
TIMINGS = ("latency", "speedup", "memory", "compile")
COUNTED = ("macs", "flops", "macs_share", "ideal")
COSTS = (*COUNTED, *TIMINGS)  # not scored
PAPER = ("command", "headline", "hardware")
MOST_TOLD = 20  # mistakes of one file
COST_SETTINGS = ("profile", "timing")  # what counted and what timed columns are about
PROFILE = ("group", "batch_size", "sampler", "steps", "guidance")


class RecipeError(UsageError):
    """All mistakes of one recipe, one line each."""

    @property
    def errors(self) -> list[str]:
        return self.problem.split("\n")

    def __str__(self) -> str:
        first, more = self.errors[:MOST_TOLD], self.errors[MOST_TOLD:]
        return "\n".join([*first, *([f"and {len(more)} mistakes more"] if more else [])])


def names() -> list[str]:
    """The recipes there are, those of other distributions included."""
    return sorted(_files())


def _files() -> dict[str, Path]:
    """The file of every recipe; a name of this package stays this package's."""
    folders = [*registry.folders("skipdit.recipes").values(), shipped.recipes()]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def is_name(text: str) -> bool:
    """Whether a text names a recipe or a YAML file, and not a model or a run."""
    return text in names() or text.endswith((".yaml", ".yml"))


def summary(name: str) -> str:
    """The title of a recipe."""
    with _files()[name].open(encoding="utf-8") as file:
        title = next((line for line in file if line.startswith("title:")), "title:")
    return title.removeprefix("title:").strip().strip("\"'")


def load_recipe(name_or_path: str, *, scale: str = "tiny", overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe at one scale.

    Args:
        name_or_path: one of `names()`, or a YAML file.
        overrides: `key=value` for any of SETTINGS; they win over what rows say.
    Raises:
        RecipeError: every mistake of the file and the overrides, one line each.
        UsageError: no such recipe or scale, or not a YAML file.
    """
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    path, shown = _find(name_or_path)
    content = yaml_file.read_yaml(path, shown)
    if not isinstance(content, dict):
        raise RecipeError(f"{shown}: not a recipe; it starts with title: ...")
    check = _Check(shown)
    check.scales = _scales(content)
    by_scale = {each: check.recipe(content, path.stem, each) for each in check.scales}
    forced: dict[str, Any] = {}
    for text in overrides:
        try:
            forced.update([_override(text)])
        except UsageError as error:
            check.errors.append(str(error))
    if check.errors:
        raise RecipeError("\n".join(dict.fromkeys(check.errors)))
    if scale not in by_scale:
        raise UsageError(
            f"{shown} has no {scale} scale", place=f"--scale {scale}", fix="leave it out"
        )
    recipe = by_scale[scale]
    if scale == "tiny" and recipe.table:
        others = set(published.lines(recipe.table)[0]) - {column.key for column in recipe.columns}
        only = (column.label for column in by_scale["paper"].columns if column.key in others)
        recipe = replace(recipe, paper_only=tuple(only))
    gone = {*forced, *({"seed", "seeds"} if _seeded(forced) else ())}
    rows = (
        replace(row, settings={k: v for k, v in row.settings.items() if k not in gone})
        for row in recipe.rows
    )
    kept = {key: value for key, value in recipe.settings.items() if key not in gone}
    return replace(recipe, rows=tuple(rows), settings=kept | forced)


def _seeded(forced: Mapping[str, Any]) -> bool:
    """Whether overrides say which seeds there are, so that those of the recipe do not count."""
    if "seed" in forced or "seeds" in forced:
        return True
    with suppress(SkipditError):  # which is told where the prompts are needed
        return "prompts" in forced and prompts.read_prompts(forced["prompts"]).seeds is not None
    return False


def _override(text: str) -> tuple[str, Any]:
    key, sign, value = (part.strip() for part in text.partition("="))
    if not sign:
        raise UsageError(
            f"override '{text}' is not key=value", fix="write one such as num_samples=16"
        )
    return key, setting(key, value, place=f"override '{text}'")


def _find(name_or_path: str) -> tuple[Path, str]:
    """The file, and what errors call it."""
    if name_or_path in (known := _files()):
        return known[name_or_path], f"recipes/{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 or os.path.exists(name_or_path):
        given.check(path, place=name_or_path, fix="see skipdit ls recipes", most=given.MOST_TEXT)
        return path, name_or_path
    raise unknown("recipe", name_or_path, names())


def scales(name_or_path: str) -> tuple[str, ...]:
    """The scales that a recipe has: tiny, paper or both.

    Raises:
        UsageError: no such recipe, or not a YAML file.
    """
    return _scales(yaml_file.read_yaml(*_find(name_or_path)))


def _scales(content: Any) -> tuple[str, ...]:
    """The scales in the content of a recipe; both where it names none."""
    part = content.get("scales") if isinstance(content, dict) else None
    return tuple(each for each in SCALES if isinstance(part, dict) and each in part) or SCALES


class _Check(Mistakes):
    """Turns YAML content into Recipes and keeps every mistake on the way.

    Attributes:
        scales: those that the recipe has.
    """

    scales: tuple[str, ...] = SCALES

    def scaled(self, value: Any, place: str, scale: str, required: Iterable[str] = ()) -> Any:
        """What a row says for a scale: under `tiny` and `paper`, or once for both.

        Args:
            required: the scales that have to be there where one of them is.
        """
        if isinstance(value, dict) and set(value) & set(SCALES):
            return self.mapping(value, place, SCALES, required).get(scale, {})
        return value

    def recipe(self, value: Any, name: str, scale: str) -> Recipe:
        """The recipe at a scale; where there are mistakes, what is left of it."""
        top = ("title", "table", "paper", "notes", "scales", "rows")
        content = self.mapping(value, "", top, ("title", "scales", "rows"))
        texts = self.texts(content, "", ("title", "table"))
        lines: tuple[dict[str, str], ...] = ()
        with self.at("table"):
            lines = published.lines(texts["table"]) if "table" in texts else ()
        table = texts["table"] if lines else None
        scales = self.mapping(
            content.get("scales", {}), "scales", SCALES, self.scales if "scales" in content else ()
        )
        place, keys = f"scales.{scale}", ("groups", "settings", "columns")
        part = self.mapping(
            scales.get(scale, {}), place, (*keys, "engine"), keys if scale in scales else ()
        )
        groups = self.groups(part.get("groups", {}), f"{place}.groups")
        columns = self.sequence(part.get("columns", []), f"{place}.columns")
        rows = self.sequence(content.get("rows", []), "rows")
        engine = str(part.get("engine", ""))
        with self.at(f"{place}.engine"):
            if engine and engine not in ENGINES:
                raise unknown("engine", engine, ENGINES)
        recipe = Recipe(
            name=name,
            table=table,
            title=texts.get("title", name),
            scale=scale,
            engine=engine,
            paper=self.mapping(content.get("paper", {}), "paper", PAPER),
            notes=tuple(str(note) for note in self.sequence(content.get("notes", []), "notes")),
            settings=self.settings(
                part.get("settings", {}), f"{place}.settings", groups, (*SETTINGS, *COST_SETTINGS)
            ),
            columns=tuple(
                self.column(column, f"{place}.columns[{i}]", table, groups)
                for i, column in enumerate(columns)
            ),
            rows=tuple(
                self.row(row, f"rows[{i}]", scale, table, groups) for i, row in enumerate(rows)
            ),
        )
        self.unique([column.key for column in recipe.columns], f"{place}.columns", "key")
        self.unique([row.id for row in recipe.rows], "rows", "id")
        of_runs = [row.id for row in recipe.rows if row.difference is None]
        for i, row in enumerate(recipe.rows):
            with self.at(f"rows[{i}].difference"):
                for one in row.difference or ():
                    if one not in of_runs:
                        raise unknown("row", one, of_runs)
        return recipe

    def groups(self, value: Any, place: str) -> dict[str, str]:
        """Data set -> base model; those whose model is not known are left out."""
        from skipdit_cli.checkpoints import catalog

        models = {}
        for group, model in self.mapping(value, place).items():
            with self.at(f"{place}.{group}"):
                models[group] = catalog.card(str(model)).name
        return models

    def settings(
        self, value: Any, place: str, groups: dict[str, str], known: tuple[str, ...] = SETTINGS
    ) -> dict[str, Any]:
        """The settings of a scale, of its profile, its timing or a row, in their types.

        Args:
            groups: those that profile and timing may be about.
            known: the keys that are allowed.
        """
        typed: dict[str, Any] = {}
        for key, content in self.mapping(value, place, known).items():
            here = f"{place}.{key}"
            with self.at(here):
                if key in COST_SETTINGS:
                    typed[key] = self.settings(content, here, groups, PROFILE)
                elif key == "group":
                    typed[key] = _known_group(str(content), groups)
                elif key in known:
                    typed[key] = setting(key, content)
        return typed

    def column(self, value: Any, place: str, table: str | None, groups: dict[str, str]) -> Column:
        """One column; its key is one of the published table's, or made of group and metric."""
        keys = ("key", "label", "metric", "group", "unit", "better", "tolerance", "planned")
        content = self.mapping(value, place, keys, ("label", "metric"))
        texts = self.texts(content, place, [key for key in keys if key != "tolerance"])
        metric, group = texts.get("metric", ""), ""
        with self.at(f"{place}.metric"):
            metrics = (*registry.names("metrics"), *COSTS)
            here = metric in COSTS or registry.known("metrics", metric)
            if metric and not here and "planned" not in texts:
                raise unknown("metric", metric, metrics)
        with self.at(f"{place}.group"):
            group = _known_group(texts["group"], groups) if "group" in texts else ""
        with self.at(f"{place}.key"):
            if table and "key" in texts and texts["key"] not in published.lines(table)[0]:
                raise unknown(f"column of {table}.csv", texts["key"], published.lines(table)[0])
        with self.at(f"{place}.better"):
            if texts.get("better", "") not in ("", "higher", "lower"):
                raise UsageError(f"'{texts['better']}' is neither higher nor lower")
        tolerance = Column.tolerance
        with self.at(f"{place}.tolerance"):
            tolerance = _tolerance(content.get("tolerance", tolerance))
        return Column(
            key=texts.get("key") or (f"{group}_{metric}" if group else metric),
            label=texts.get("label", metric),
            metric=metric,
            group=group,
            unit=texts.get("unit", ""),
            better=texts.get("better", ""),
            tolerance=tolerance,
            planned=texts.get("planned"),
        )

    def row(
        self, value: Any, place: str, scale: str, table: str | None, groups: dict[str, str]
    ) -> RecipeRow:
        """One row at a scale; `{model}` is filled in for every group."""
        from skipdit_cli.checkpoints import catalog

        keys = (
            *("id", "label", "published", "model", "cache", "settings", "planned", "text_tokens"),
            *("fewer_steps", "difference"),
        )
        content = self.mapping(value, place, keys, ("id", "label"))
        texts = self.texts(content, place, ("id", "label", "model", "planned"))
        if content and not {"model", "planned", "difference"} & content.keys():
            with self.at(place):
                raise UsageError("'model' is missing", fix='write model: "{model}", or planned:')
        difference = self.difference(content, place)
        template = texts.get("model", "")
        models = {}
        for group, base in groups.items() if template else ():
            with self.at(f"{place}.model"):
                models[group] = catalog.card(template.replace("{model}", base)).name
        written = self.scaled(content.get("cache", "none"), f"{place}.cache", scale, self.scales)
        cache = no_cache()
        with self.at(f"{place}.cache"):
            if written != {}:  # else the scale is missing, a mistake that is kept already
                cache = parse_cache(str(written), place=f"{self.shown} {place}.cache")
        keyed = self.mapping(content.get("published", {}), f"{place}.published")
        line = {key: "" if text is None else str(text) for key, text in keyed.items()}
        with self.at(f"{place}.published"):
            if line and table:
                published.numbers(table, line)
        settings = self.scaled(content.get("settings", {}), f"{place}.settings", scale)
        tokens = self.scaled(content.get("text_tokens"), f"{place}.text_tokens", scale) or None
        with self.at(f"{place}.text_tokens"):
            if tokens is not None and (type(tokens) is not int or tokens < 1):
                raise UsageError(f"'{tokens}' is not a number of tokens", fix="write 1 or more")
        return RecipeRow(
            id=texts.get("id", place),
            label=texts.get("label", place),
            models=models,
            cache=cache,
            published=line,
            planned=texts.get("planned"),
            settings=self.settings(settings, f"{place}.settings", groups),
            text_tokens=tokens if type(tokens) is int else None,
            fewer_steps=self.fewer_steps(content, place, scale, models),
            difference=difference,
        )

    def difference(self, content: dict[str, Any], place: str) -> tuple[str, str] | None:
        """The two rows that a row compares, and nothing else beside them."""
        if "difference" not in content:
            return None
        with self.at(f"{place}.difference"):
            if beside := sorted(content.keys() - {"id", "label", "difference"}):
                raise UsageError(f"a row of a difference has no {beside[0]}", fix="leave it out")
            match content["difference"]:
                case [str(first), str(second)] if first != second:
                    return first, second
            raise UsageError("is not two rows", fix="write [A, B], ids of two others")
        return None

    def fewer_steps(
        self, content: dict[str, Any], place: str, scale: str, models: dict[str, str]
    ) -> dict[str, int]:
        """The number of steps of every group; empty where the row has none."""
        if "fewer_steps" not in content:
            return {}
        here = f"{place}.fewer_steps"
        value = self.scaled(content["fewer_steps"], here, scale, self.scales)
        if not isinstance(value, dict):
            value = dict.fromkeys(models, value)
        counts = self.mapping(value, here, models, models)
        with self.at(here):
            if "cache" in content:
                raise UsageError("a run of fewer steps has no cache", fix="leave one of them out")
            for count in counts.values():
                if type(count) is not int or count < 1:
                    raise UsageError(f"'{count}' is not a number of steps", fix="write 1 or more")
        return {group: count for group, count in counts.items() if type(count) is int}


def _known_group(name: str, groups: dict[str, str]) -> str:
    if groups and name not in groups:  # without groups, that is the mistake to tell
        raise unknown("group", name, groups)
    return name


def _tolerance(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise UsageError(f"'{value}' is not a number of 0 or more")
    return float(value)
