"""What runs will take, told before they run: by `plan`, and by what computes samples."""

import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.cli._output import say
from skipdit_cli.errors import several

if TYPE_CHECKING:
    from skipdit_cli.generate.footprint import Footprint
    from skipdit_cli.generate.options import Options
    from skipdit_cli.plan.estimate import Estimate
    from skipdit_cli.run import Run

Job = tuple["Run", Sequence[str]]  # a run and its metrics

WORDS = {"kept": "kept by the cache"}
ENCODER = {False: "text encoder, before that", True: "text encoders"}  # whether of a pipeline
ASKS = 1.0  # hours, from which on it is asked on a terminal
SMALL = 1e9  # bytes: less is told in one line
LITTLE = 50_000  # bytes that are not told
CODED = 0.25  # of their size before compression, which lossless samples do not come below


@dataclass(frozen=True)
class Told:
    """An estimate in words.

    Attributes:
        found: hours and disk.
        run: the one that takes the most memory.
        held: its memory.
        offload: what is kept off the GPU while it is not needed, as `Options` has it.
        uncounted: the caches of which is not known what they keep.
        gpus: that share the work.
    """

    found: "Estimate"
    run: "Run"
    held: "Footprint"
    offload: str = ""
    uncounted: tuple[str, ...] = ()
    gpus: int = 1

    @property
    def peak(self) -> int:
        """Bytes of memory, at most."""
        return self.held.peak(self.run.batch_size, offload=self.offload)

    @property
    def memory_size(self) -> str:
        """The peak, for people; at least that, where not all is counted."""
        least = "at least " if self.uncounted else ""
        return f"{least}{size(self.peak)} of memory"

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of memory by what takes them; not all of it is there at a time."""
        held, batch = self.held, self.run.batch_size
        return {
            "weights": held.weights,
            "steps": held.step * batch,
            "kept": held.kept * batch,
            "autoencoder": held.autoencoder,
            "decoding": held.decoding,
            "text_encoder": held.encoder,
        }

    @property
    def cells(self) -> tuple[str, str, str]:
        """Hours, memory and disk, for a table."""
        hours = self.found.shared(self.gpus)
        told = "unknown" if hours is None else f"{hours:.2f}" if hours < 10 else f"{hours:.0f}"
        memory = "> " * bool(self.uncounted) + size(self.peak)
        return "< " * self.found.at_most + told, memory, size(self.found.bytes)

    def hours(self) -> list[str]:
        """Lines of hours; none where no rate is known."""
        found, gpus, whole = self.found, self.gpus, self.found.shared(self.gpus)
        if whole is None:
            return []
        parts = {"sampling": found.sampling, "decoding": found.decoding, "timing": found.timing}
        told = ", ".join(f"{what} {duration(part)}" for what, part in parts.items() if part)
        where = found.machine.label if gpus == 1 else f"{gpus} x {found.machine.label}"
        left = f"left: {several(found.samples, 'sample')} of {several(found.runs, 'run')}"
        if not told:
            return [left]
        told = told if gpus == 1 else f"of one of them {told}"
        head = f"{'at most ' * found.at_most}{duration(whole)} on {where}: {told}"
        return [f"{head}; {left}", f"rates: {'; '.join(found.sources)}"]

    def unknown(self) -> str:
        """Why there are no hours, and which command gives them."""
        precision, model = self.found.lacks or ("", "")
        machine, fix = self.found.machine, "take another --gpu"
        if machine.gpu in ("", "cpu"):
            fix = f"`skipdit profile --calibrate --model {model} --precision {precision}` measures "
            fix += "it, --gpu a100 has those of another machine"
        return (
            f"hours are not known: nothing says how fast {machine.label} is in {precision}; {fix}"
        )

    def scoring(self) -> list[str]:
        """Lines of the metrics that take long."""
        return [
            f"scoring takes beside that: {what} {duration(hours)}"
            for what, hours in self.found.scoring.items()
            if hours * 60 >= 1
        ]

    def memory(self, room: float | None = None) -> str:
        """The line of memory.

        Args:
            room: bytes that there are.
        """
        run, held, batch = self.run, self.held, self.run.batch_size
        words = {**WORDS, "text_encoder": ENCODER[run.card.pipeline]}
        told = _listed({words.get(what, what): part for what, part in self.parts.items()})
        told += f"; with --offload {self.offload}" if self.offload else ""
        most = f"{run.cache.short} on {run.model}" if not run.is_reference else run.model
        line = f"{self.memory_size} at batch {batch} ({most}: {told})"
        if room is not None and self.peak > room:
            fits = held.fitting(room, offload=self.offload)
            line += f"; there are {size(room)}, in which {f'batch {fits}' if fits else 'none'} fits"
        if self.uncounted:
            line += f"; what {', '.join(self.uncounted)} keeps cannot be counted"
        return line

    def disk(self, free: float | None = None) -> str:
        """The line of disk.

        Args:
            free: bytes that there are.
        """
        here = "" if free is None else f"; {size(free)} are free"
        return f"{size(self.found.bytes)} of disk at most ({_listed(self.found.disk)}){here}"

    @property
    def lines(self) -> list[str]:
        """All of it, for under a table."""
        from skipdit_cli.generate.memory import room_of

        hours, machine = self.hours() or [self.unknown()], self.found.machine
        room = machine.memory or room_of("cpu" if machine.gpu == "cpu" else "cuda")
        return [*hours, *self.scoring(), self.memory(room), self.disk()]

    @property
    def content(self) -> dict[str, Any]:
        """All of it, for programs: hours and bytes."""
        found = self.found
        return {
            "machine": found.machine.label,
            "gpus": self.gpus,
            "hours": found.shared(self.gpus),
            "sampling_hours": found.sampling,
            "decoding_hours": found.decoding,
            "timing_hours": found.timing,
            "at_most": found.at_most,
            "rates": found.sources,
            "scoring_hours": found.scoring,
            "samples": found.samples,
            "memory_bytes": self.peak,
            "memory_without": self.uncounted,
            "memory": {
                "run": self.run.key,
                "batch_size": self.run.batch_size,
                **self.parts,
            },
            "disk_bytes": found.bytes,
            "disk": found.disk,
        }


def told(
    jobs: "Iterable[Job]",
    gpu: str | None = None,
    *,
    root: Path | None = None,
    timed: "Iterable[Run]" = (),
    repeats: int = 0,
    offload: str = "",
    previews: bool = True,
    gpus: int = 1,
) -> Told:
    """The estimate of runs.

    Args:
        jobs: at least one.
        gpu: a name of the table of GPUs, "cpu", or None for what is here.
        root: the results folder, where what is there already does not count.
        timed: the runs that are timed, `repeats` times each.
        gpus: of that kind, that share the work.
    """
    from skipdit_cli.plan.estimate import estimate
    from skipdit_cli.plan.rates import machine

    jobs = [*jobs]
    found = estimate(jobs, machine(gpu), root=root, timed=timed, repeats=repeats, previews=previews)
    return about(found, [run for run, _ in jobs], offload=offload, gpus=gpus)


def about(found: "Estimate", runs: "Sequence[Run]", *, offload: str = "", gpus: int = 1) -> Told:
    """An estimate with the memory of its runs."""
    from skipdit_cli.generate.footprint import footprint

    largest = max(runs, key=lambda run: footprint(run).peak(run.batch_size, offload=offload))
    uncounted = {run.cache.short: 0 for run in runs if not footprint(run).counted}
    return Told(found, largest, footprint(largest), offload, tuple(uncounted), gpus)


def announce(
    jobs: "Iterable[Job]", how: "Options", *, timed: "Iterable[Run]" = (), yes: bool = False
) -> None:
    """Say what is left to do and what it takes; stop where the disk cannot hold it.

    On a terminal it asks before work of more than an hour. Whether the memory will do is looked at
    where the work begins (`generate/memory.py`); without weights or prompts it does not begin.

    Args:
        jobs: runs, each with its metrics; where there are metrics, their references are added.
        timed: the runs that are timed.
        yes: do not ask.
    Raises:
        StoreError: the disk is too small.
        SkipditError: the answer was no.
    """
    from skipdit_cli.errors import SkipditError, StoreError
    from skipdit_cli.generate import memory
    from skipdit_cli.generate.worker import device_here

    jobs = [*jobs]
    jobs = [*((run.reference, metrics) for run, metrics in jobs if metrics), *jobs]
    if device_here(how.device) != how.device:  # nothing is known of the machines that work
        return
    if any(run.weights == "absent" or (run.card.text and not run.prompts) for run, _ in jobs):
        return
    whole = told(
        jobs,
        "cpu" if how.device == "cpu" else None,
        root=how.root,
        timed=timed,
        repeats=how.repeats,
        offload=how.offload,
        previews=how.previews,
        gpus=1 if how.device == "cpu" else _gpus(how.engine.workers),
    )
    found = whole.found
    if not found.samples and not found.timing:
        return
    free = _free(how.root)
    hours = whole.hours()
    space = [whole.memory(memory.room_of(how.device)), whole.disk(free)]
    if max(whole.peak, found.bytes) < SMALL:
        space = [f"{whole.memory_size}, {size(found.bytes)} of disk"]
    elif not hours:
        hours = [whole.unknown()]
    for line in (*hours, *whole.scoring(), *space):
        say(f"estimate: {line}")
    least = found.bytes - found.disk.get("samples", 0) * (1 - CODED)
    if least > free:
        raise StoreError(
            f"what is left takes {size(least)} at least and {size(free)} are free",
            place=str(how.root),
            fix="free some space, or take another folder with --results",
        )
    whole_hours = found.shared(whole.gpus)
    if whole_hours is None or whole_hours < ASKS or yes or not terminal():
        return
    import typer

    if not typer.confirm("Go on?", default=True, err=True):
        raise SkipditError("stopped before anything was made", fix="--yes does not ask")


def duration(hours: float) -> str:
    """Hours as people say them.

    >>> duration(0.004), duration(0.02), duration(0.5), duration(3.21), duration(1190)
    ('under a minute', '1 minute', '30 minutes', '3.2 hours', '1190 hours')
    """
    if hours * 60 < 1:
        return "under a minute"
    if hours < 1:
        minutes = round(hours * 60)
        return f"{minutes} minute{'s' * (minutes != 1)}"
    return f"{hours:.{1 if hours < 100 else 0}f} hours"


def _listed(parts: "Mapping[str, float]") -> str:
    """What takes bytes, but for what is little beside the rest."""
    least = LITTLE if max(parts.values(), default=0) >= LITTLE else 1
    told = (f"{what} {size(part)}" for what, part in parts.items() if part >= least)
    return ", ".join(told) or "nothing"


def size(count: float) -> str:
    """Bytes as people say them.

    >>> size(900), size(2_345_678_901)
    ('1 kB', '2.35 GB')
    """
    from skipdit_cli.checkpoints.local import size_text

    return size_text(int(count)) if count >= LITTLE else f"{count / 1e3:.0f} kB"


def _free(root: Path) -> float:
    """Bytes that are left on the disk of a folder, which may not be there yet."""
    here = root.absolute()
    return shutil.disk_usage(next(path for path in (here, *here.parents) if path.exists())).free


def terminal() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _gpus(workers: int) -> int:
    import torch

    return max(1, min(workers, torch.cuda.device_count()))
