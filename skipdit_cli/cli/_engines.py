"""Where the work of a command runs: the options, and the engine that they choose."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skipdit_cli.cli import at_end

if TYPE_CHECKING:
    from skipdit_cli.generate.engine import Engine

JOBS = 8  # of a Slurm array at a time, if nothing is said

Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes side by side; give as many as there are GPUs, and each has its own. By "
        f"default 1 here, all that a Ray cluster has room for, {JOBS} jobs of Slurm at a time.",
    ),
]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Where batches are computed: local (this machine), ray (a Ray cluster: that of "
        "RAY_ADDRESS, or one that runs here) or slurm (array jobs).",
    ),
]
NoSharedFolder = Annotated[
    bool,
    typer.Option(
        "--no-shared-folder",
        help="With --engine ray: the nodes do not see the results folder; what they make is sent.",
    ),
]

SlurmSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm",
        metavar="NAME=VALUE",
        help="With --engine slurm, may be repeated: what sbatch is told, as partition=gpu, "
        "time=240 (minutes of a job; one that is cut off goes on in the next), mem=64G.",
    ),
]


def chosen(
    name: str | None,
    device: str,
    *,
    workers: int | None,
    root: Path,
    no_shared_folder: bool = False,
    slurm: list[str] | None = None,
) -> "tuple[str, Engine]":
    """The device of the workers, "cpu" or "cuda", and the engine of a name; None is this machine.

    Args:
        device: of --device.
        root: the results folder.
        slurm: of --slurm.
    Raises:
        UsageError: there is no such engine or device, or what it needs is not here.
    """
    from skipdit_cli.cli import _options as options
    from skipdit_cli.errors import UsageError, unknown
    from skipdit_cli.generate.local import Local
    from skipdit_cli.recipe.shape import ENGINES

    name = name or ENGINES[0]
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES, place="--engine")
    if no_shared_folder and name != "ray":
        fix = "leave it out, or take --engine ray"
        raise UsageError(f"{name} needs the folder", place="--no-shared-folder", fix=fix)
    settings = dict(_setting(each) for each in slurm or ())
    if settings and name != "slurm":
        fix = "leave it out, or take --engine slurm"
        raise UsageError(f"{name} has no such settings", place="--slurm", fix=fix)
    used = options.device_name(device, elsewhere=name != ENGINES[0])
    if name == "ray":
        from skipdit_cli.generate import on_ray

        folder = None if no_shared_folder else root
        cluster = on_ray.connect(workers, folder=folder, device=used)
        at_end.callback(cluster.close)
        return used, cluster
    if name == "slurm":
        from skipdit_cli.generate.on_slurm import Slurm

        return used, Slurm(workers or JOBS, root, 1 if used == "cuda" else 0, settings)
    return used, Local(workers or 1)


def _setting(given: str) -> tuple[str, str | int]:
    from skipdit_cli.errors import UsageError

    name, equals, value = given.partition("=")
    if not (name and equals and value):
        raise UsageError(f"{given!r} is not NAME=VALUE", place="--slurm", fix="as partition=gpu")
    return name.replace("-", "_"), int(value) if value.isdigit() else value
