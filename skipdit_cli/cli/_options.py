"""Options that several commands share, and what they mean."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skipdit_cli.cli import _complete as complete
from skipdit_cli.cli._output import say

if TYPE_CHECKING:
    from skipdit_cli.cache import CacheSpec
    from skipdit_cli.recipe.recipe import Recipe as LoadedRecipe
    from skipdit_cli.run import Run

DEVICES = ("auto", "cpu", "cuda")

RecipeArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE]",
        help="A recipe (`skipdit ls recipes`) or a YAML file.",
        autocompletion=complete.recipes,
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option("--recipe", help="The same as RECIPE.", autocompletion=complete.recipes),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="A model (`skipdit ls models`), or the folder of one of your own.",
        autocompletion=complete.models,
    ),
]
Caches = Annotated[
    list[str] | None,
    typer.Option(
        "--cache",
        help="A cache spec, as skip-cache(n=2), or a grid, as skip-cache(n=2..4,branch=1|2); may "
        "be repeated. `skipdit ls caches NAME` lists the settings of a method.",
        autocompletion=complete.caches,
    ),
]
Intervals = Annotated[str | None, typer.Option("--n", help="Intervals, as 2..6.")]
Windows = Annotated[
    str | None, typer.Option("--window", help="Windows, as 700-50,800-50; else the model's own.")
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="Caching methods for --n and --window, comma-separated; else skip-cache.",
        autocompletion=complete.methods,
    ),
]
Scale = Annotated[
    str,
    typer.Option(help="tiny (embedded models), paper (published checkpoints), or auto."),
]
Root = Annotated[Path, typer.Option("--results", help="Folder of samples, scores and reports.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="A checkpoint file to use for --model, .pt or .safetensors; or random: a dry run at "
        "full size, for which nothing is downloaded and whose samples mean nothing."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of all noise and classes.")]
Seeds = Annotated[
    str | None,
    typer.Option(
        help="Several seeds, as 0..4, for every prompt or class; else --seed, or those of a file "
        "of prompts. Then there are as many samples as seeds and prompts together."
    ),
]
Interval = Annotated[
    int | None,
    typer.Option(min=1, help="Frames from one of a clip to the next; else 3, or 4 of text models."),
]
MaxBad = Annotated[
    int,
    typer.Option(min=0, help="Files that may be left out as they cannot be read; all are named."),
]
NumSamples = Annotated[int | None, typer.Option(help="How many samples.")]
BatchSize = Annotated[
    int | None, typer.Option(help="Samples computed together; not more than are asked for.")
]
Steps = Annotated[str | None, typer.Option(help='Sampling steps: 50, "ddim50" or "10,15,20".')]
NoFewerSteps = Annotated[
    bool,
    typer.Option(
        "--no-fewer-steps",
        help="Without the uncached rows of as many steps as cost the FLOPs of each cache.",
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        help="A sampler; `skipdit ls samplers` lists them.", autocompletion=complete.samplers
    ),
]
Guidance = Annotated[str | None, typer.Option(help="Classifier-free guidance scale, or none.")]
Classes = Annotated[
    str | None, typer.Option(help="Classes the samples take in turn, as 0..9 or 3,5; else drawn.")
]
Prompt = Annotated[
    list[str] | None, typer.Option(help="A prompt; may be repeated. The samples take them in turn.")
]
Prompts = Annotated[
    str | None,
    typer.Option(
        help="A list of prompts (vbench; coco, drawbench, geneval and parti by `skipdit download`) "
        "or a file: .txt, one on a line, or .csv, .tsv, "
        ".json, .jsonl with a column or key prompt, caption, text or prompt_en, and perhaps seed "
        "and name. Fewer samples than VBench has prompts are spread evenly over its dimensions."
    ),
]
NegativePrompt = Annotated[
    str | None,
    typer.Option(help="What guidance leads away from; else the model's own, which may be empty."),
]
Offload = Annotated[
    str,
    typer.Option(
        "--offload",
        metavar="[model|group]",
        help="Keep the autoencoder off the GPU while denoising; of a pipeline every part (model) "
        "or every block (group) that is not computing.",
    ),
]
NoPreviews = Annotated[
    bool, typer.Option("--no-previews", help="Make no mp4 of clips, beside the lossless ones.")
]
Precision = Annotated[
    str | None,
    typer.Option(help="float32 (strict), tf32 (float32 with TF32 products), float16 or bfloat16."),
]
DecodePrecision = Annotated[
    str | None, typer.Option(help="The same, of the autoencoder; else float32.")
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile the layers (torch.compile): faster steps after minutes of that."
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        help="What hours are for: a100, h100, h200, l40s, v100 or cpu; else what is here.",
    ),
]
Gpus = Annotated[
    int,
    typer.Option("--workers", min=1, help="How many GPUs share the work, of which the hours are."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before hours of work.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
Figure = Annotated[
    str | None,
    typer.Option(
        help="Every plot for a paper, beside the table: pdf, svg, png; comma-separated.",
    ),
]
FigureWidth = Annotated[
    str | None,
    typer.Option("--width", help="Of these: column (3.35 in), or page (7 in); else column."),
]
Study = Annotated[
    str | None,
    typer.Option(
        "--name",
        metavar="STUDY",
        help="The study's name, also of one that is there (`skipdit ls studies`); else the "
        "model's, with a number where that is taken.",
        autocompletion=complete.studies,
    ),
]
InStudy = Annotated[
    str | None,
    typer.Option(
        "--study",
        metavar="STUDY",
        help="A study (`skipdit ls studies`), whose runs alone are meant; all of them where none "
        "is named.",
        autocompletion=complete.studies,
    ),
]
Redo = Annotated[
    bool,
    typer.Option(
        "--redo",
        help="First remove what is there of these runs, and make it again. If it is interrupted, "
        "go on without --redo.",
    ),
]
Override = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the recipe."),
]


def device_name(choice: str, *, elsewhere: bool = False) -> str:
    """The device of a choice: "cpu" or "cuda"; `auto` takes the GPU where there is one.

    Args:
        elsewhere: it is that of other machines, of which is not known what they have.
    Raises:
        UsageError: no such device, or there is no GPU.
    """
    from skipdit_cli.errors import UsageError, unknown

    if choice not in DEVICES:
        raise unknown("device", choice, DEVICES, place="--device")
    if choice == "cpu" or (choice == "cuda" and elsewhere):
        return choice
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if choice == "cuda":
        raise UsageError("there is no CUDA device", place="--device", fix="take cpu")
    return "cpu"


def settings(**given: Any) -> dict[str, Any]:
    """The settings that were given on the command line, in the form that `runs.make_run` takes.

    Args:
        given: what the options hold, by setting; None is not given. Weights are a setting where
            they are random; else they are a file (`weights_file`).
    Raises:
        UsageError: the classes cannot be read as a range, or two options say the same.
    """
    from skipdit_cli.errors import UsageError
    from skipdit_cli.recipe import keywords
    from skipdit_cli.spec import parse_range

    given["call"] = keywords.parse(given.get("call")) or None
    chosen = {key: value for key, value in given.items() if value is not None}
    if weights_file(chosen.get("weights")):
        del chosen["weights"]
    if "classes" in chosen:
        chosen["classes"] = tuple(parse_range(chosen["classes"], place="--classes"))
    if {"seed", "seeds"} <= chosen.keys():
        raise UsageError("--seed and --seeds say the same", fix="give one of them")
    if prompt := chosen.pop("prompt", None):
        if "prompts" in chosen:
            raise UsageError("--prompt and --prompts say the same", fix="give one of them")
        chosen["prompts"] = tuple(prompt)
    return chosen


def weights_file(given: str | None) -> Path | None:
    """The file that --weights names, if it names one."""
    from skipdit_cli.checkpoints.card import RANDOM

    return None if given in (None, RANDOM) else Path(given)


def at_least(least: int, given: int, *, place: str, zero: str = "") -> None:
    """Raise UsageError where a number is too small.

    Args:
        zero: what 0 means, where it may be given.
    """
    from skipdit_cli.errors import UsageError

    if given < least:
        fix = f"give {least} or more" + (f"; {zero}" if zero else "")
        raise UsageError(f"{given} is too few", place=place, fix=fix)


def with_fewer_steps(
    chosen: "Iterable[Run]", *, root: Path, off: bool, earlier: "Iterable[Run]" = ()
) -> "list[Run]":
    """Runs, and the uncached ones that cost what they do in fewer steps, unless that is off.

    Args:
        root: the results folder, which says what dynamic methods did reuse.
        earlier: more runs that are to have such ones.
    """
    from skipdit_cli.plan.fewer import fewer_steps

    chosen = [*chosen]
    return chosen if off else [*chosen, *fewer_steps([*chosen, *earlier], root=root)]


TOGETHER = ("guidance", "negative_prompt")  # settings that have a meaning together


def runs(
    model: str, caches: Iterable[str], given: dict[str, Any], *, weights_path: Path | None = None
) -> "list[Run]":
    """The runs of a model under several caches, each once.

    Args:
        caches: specs, or grids of them.
        given: what `settings` gives.
    Raises:
        UsageError: a setting or a cache does not fit; its option is named.
    """
    from skipdit_cli.recipe.runs import make_run
    from skipdit_cli.spec import parse_grid

    specs: list[tuple[str, CacheSpec]] = []  # each with its text for errors
    for text in caches:
        grid = parse_grid(text, place="--cache")
        specs += [(text if len(grid) == 1 else str(spec), spec) for spec in grid]
    for key in given:  # one by one, so that an error is about one option
        place = f"--{key.replace('_', '-')}"
        beside = {"call", "weights", *(TOGETHER if key in TOGETHER else ())}
        few = {name: value for name, value in given.items() if name in {key, *beside}}
        make_run(model, settings=few, weights_path=weights_path, place=place)
    made = (
        make_run(model, spec, given, weights_path=weights_path, place=f"{text} on {model}")
        for text, spec in specs
    )
    return list(dict.fromkeys(made))


def fixed_by_recipe(place: str, **given: Any) -> None:
    """Raise UsageError if anything is given that a recipe decides by itself."""
    fix = "give settings only, as --set seed=1"
    refuse(given, "cannot be combined with a recipe", place=place, fix=fix)


def refuse(given: Mapping[str, Any], why: str, *, place: str, fix: str = "leave it out") -> None:
    """Raise UsageError if any of some options is given."""
    from skipdit_cli.errors import UsageError

    if names := [f"--{key}" for key, value in given.items() if value]:
        raise UsageError(f"{', '.join(names)} {why}", place=place, fix=fix)


def refuse_overrides(override: list[str] | None) -> None:
    """Raise UsageError if --set is given where there is no recipe."""
    from skipdit_cli.errors import UsageError

    if override:
        raise UsageError("--set is for recipes", place="--set", fix="use the option of that name")


def overrides(given: dict[str, Any], more: list[str] | None) -> list[str]:
    """Options and --set, as the overrides of a recipe."""
    return [f"{key}={value}" for key, value in given.items()] + (more or [])


def recipe_named(argument: str | None, option: str | None) -> str | None:
    """The recipe, which may be given as the first argument or as --recipe.

    Raises:
        UsageError: both are given, and they are not the same.
    """
    from skipdit_cli.errors import UsageError

    if argument is not None and option is not None and argument != option:
        raise UsageError(
            f"the command names {argument} as well, and it takes one recipe",
            place=f"--recipe {option}",
            fix="leave one of the two out",
        )
    return option if argument is None else argument


def is_of(model: str | None, name: str) -> bool:
    """Whether the model of a record is the one that --model names; every one is where none is."""
    from skipdit_cli.checkpoints import catalog

    return model is None or name == catalog.named(model)


def model_at(name: str | None, scale: str, pipeline: str | None = None) -> str:
    """`scales.model_at`, which tells what was chosen; a pipeline is what it is."""
    from skipdit_cli.cli import _pipelines
    from skipdit_cli.recipe import scales

    if pipeline is not None:
        return _pipelines.named(name, pipeline)
    model, remark = scales.model_at(name, scale)
    if remark:
        say(remark)
    return model


def recipe_at(name: str, scale: str, overrides: list[str] | None) -> "LoadedRecipe":
    """`scales.recipe_at`, which tells why it is at this scale."""
    from skipdit_cli.recipe import scales

    recipe, remark = scales.recipe_at(name, scale, overrides=overrides or ())
    if remark:
        say(remark)
    return recipe
