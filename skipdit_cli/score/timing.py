"""Timings: latency, speedup and peak memory of runs, kept on disk as results.

`profiling.latency` holds the clock; here is which runs are timed, and whether
they were timed before.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING

from skipdit_cli.generate.accelerated import OF_PIPELINES
from skipdit_cli.generate.memory import memory_checked
from skipdit_cli.generate.options import Options
from skipdit_cli.precision import products
from skipdit_cli.run import Run
from skipdit_cli.score.certainty import interval_of_median
from skipdit_cli.storage import failures, results
from skipdit_cli.storage.provenance import device_name
from skipdit_cli.storage.results import COMPILING, TIMED, Result

if TYPE_CHECKING:
    from skipdit_cli.profiling.latency import Latency

VERSION = 2


def time_together(runs: Sequence[Run], options: Options) -> dict[str, dict[str, Result]]:
    """Time runs that share an uncached reference, interleaved with it.

    Where all of them were timed before, in one series, on this device and as often, that is what is
    returned; else all are timed again, for a speedup holds within one series alone. Earlier series
    stay on disk (`storage/results.py`).

    Args:
        runs: of one reference, which may be among them.
    Returns:
        By run key: `latency` (seconds of one batch), `speedup` (of the reference over it) and
        `memory` (bytes), medians and their 95 % intervals; of new ones the reference's too.
        Of compiled runs also `compile`: seconds, which are in none of the others.
    Raises:
        SkipditError: out of memory.
        StoreError: the disk is full or cannot be written.
    """
    if kept := _known(runs, options):
        return kept
    with memory_checked(runs[0].batch_size), products(runs[0].precision):
        return _timed(runs, options)


def _known(runs: Sequence[Run], options: Options) -> dict[str, dict[str, Result]] | None:
    """The timings on disk of the newest series that has all runs; None if none of this device and
    as many repetitions does."""
    hardware = _hardware(options)
    known: dict[str, dict[str, dict[str, Result]]] = {}
    for run in runs:
        for metric in _units(run):
            for series, result in results.timings_of(options.root, run, metric).items():
                same = (result.version, result.n, result.inputs)
                if same == (VERSION, options.repeats, hardware):
                    known.setdefault(series, {}).setdefault(run.key, {})[metric] = result
    for series in sorted(known, reverse=True):
        timed = known[series]
        if all(timed.get(run.key, {}).keys() == _units(run).keys() for run in runs):
            return timed
    return None


def _units(run: Run) -> dict[str, str]:
    return TIMED | COMPILING if run.compile else TIMED


def _hardware(options: Options) -> str:
    """What timings are only comparable on: the device and the number of threads, and, of a
    pipeline, what is kept off the device."""
    import torch

    device = options.device
    if device.startswith("cuda"):
        moved = f", offload {options.offload}" if options.offload in OF_PIPELINES else ""
        return device_name(device) + moved
    return f"{device_name(device)}, {torch.get_num_threads()} threads"


def clocked(
    loops: Mapping[str, Callable[[], object]], options: Options, *, reference: str, what: str
) -> "dict[str, Latency]":
    """Time loops by turns, with progress.

    Args:
        loops, reference: as in `latency.measure`.
        what: they are, for the display.
    """
    from skipdit_cli.profiling.latency import measure

    done, total = 0, (options.repeats + 1) * len(loops)
    with options.stage(f"timing {what}") as update:

        def finished() -> None:
            nonlocal done
            done += 1
            update(done, total)

        return measure(
            loops,
            reference=reference,
            repeats=options.repeats,
            device=options.device,
            on_loop=finished,
        )


def _timed(group: Sequence[Run], options: Options) -> dict[str, dict[str, Result]]:
    """New timings of a group, its reference among them."""
    from skipdit_cli.profiling.latency import peak_bytes
    from skipdit_cli.score.body import loop_of
    from skipdit_cli.storage import provenance

    reference = group[0].reference
    body = loop_of(
        reference,
        device=options.device,
        weights_path=options.weights_path,
        offload=options.offload,
    )
    loops = {run.key: partial(body, run.cache, steps=run.steps) for run in (reference, *group)}
    what = f"{reference.model}, {len(loops)} caches"
    timed = clocked(loops, options, reference=reference.key, what=what)
    memory = {
        key: peak_bytes(partial(loop, brief=True), device=options.device)
        for key, loop in loops.items()
    }
    made = provenance.collect(import_torch=True, device=options.device)
    made["series"] = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{token_hex(2)}"
    timings: dict[str, dict[str, Result]] = {}
    for run in {run.key: run for run in [reference, *group]}.values():
        latency = timed[run.key]
        values = {
            "latency": (latency.median, latency.seconds),
            "speedup": (latency.median_speedup, latency.speedup),
            "memory": (memory[run.key], ()),
            "compile": (latency.compiling, ()),
        }
        timings[run.key] = {
            metric: results.Result(
                metric=metric,
                value=values[metric][0],
                unit=unit,
                n=options.repeats,
                run=run.key,
                reference=reference.key,
                interval=interval_of_median(values[metric][1]),
                scores=values[metric][1] or None,
                version=VERSION,
                inputs=_hardware(options),
                provenance=made,
            )
            for metric, unit in _units(run).items()
        }
        beside = made["series"] if run.reference_steps else ""
        for result in timings[run.key].values():
            results.write_result(options.root, result, series=beside)
        failures.clear_failure(options.root, run.key, failures.TIMING)
    return timings
