"""The parts of the check, each a generator of facts: what was measured, by name.

`ok` is there where a number can be right or wrong; the others are for people, and for estimates.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from skipdit_cli import registry
from skipdit_cli.cache import NONE
from skipdit_cli.checkpoints import catalog, drawn, networks
from skipdit_cli.errors import SkipditError
from skipdit_cli.generate import batch as batches
from skipdit_cli.generate import conditioning, decode, loaded
from skipdit_cli.plan.plan import plan
from skipdit_cli.precision import PRECISIONS, dtype_of, products
from skipdit_cli.profiling.latency import Latency, measure, peak_bytes
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.run import Run
from skipdit_cli.score.body import loop_of
from skipdit_cli.storage import provenance

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import official as authors

Fact = dict[str, Any]
CLOSE = 1e-3  # relative, of samples in float32 on two devices
SPEED = (  # table, model, samples at once, precision, steps, caches: what is worth most comes first
    (8, "dit-xl-2-skip", 8, "tf32", 10, ("skip-cache(n=2)", "skip-cache(n=4)")),
    (1, "taichi-skip", 3, "float16", 6, ("skip-cache(n=2)", "skip-cache(n=6)")),
    (3, "latte-skip", 1, "float16", 6, ("skip-cache(n=2,window=1000-0)",)),
    (4, "hunyuan-dit", 1, "float16", 6, ("skip-cache(n=2,window=1000-0)", "fora(n=2)")),
    (1, "taichi", 3, "float16", 6, ("fora(n=2,window=1000-0)", "taylorseer(n=3,warmup=1)")),
    (3, "latte", 1, "float16", 6, ("pab(n=2,spatial=2,temporal=3,cross=5)",)),
    (8, "dit-xl-2", 8, "tf32", 10, ("fora(n=2,window=1000-0)",)),
    (8, "dit-xl-2-skip", 8, "float16", 10, ("skip-cache(n=2)",)),
    (8, "dit-xl-2-skip", 8, "bfloat16", 10, ()),
    (8, "dit-xl-2-skip", 8, "float32", 6, ()),
    (1, "taichi-skip", 1, "tf32", 6, ()),
    (8, "dit-xl-2-skip", 1, "float16", 20, ("skip-cache(n=2)",)),
)
OFFICIAL = {"float32": 1e-4, "tf32": 1e-2, "float16": 2e-2}  # relative, of one call
EXACT = {"float32": 1e-4, "tf32": 5e-3, "float16": 2e-2, "bfloat16": 1e-1}
HALF = 5e-2  # of latents in float16, compiled and not
FULL = ("dit-xl-2-skip", "taichi-skip", "hunyuan-dit", "latte-skip")


@dataclass(frozen=True)
class How:
    """Where the check runs.

    Attributes:
        device: "cuda" or "cpu".
        scale: "paper", or "tiny" for the embedded models in place of the full-size ones.
        official: a checkout of the official code, or None.
        scratch: a folder for results.
    """

    device: str
    scale: str
    official: Path | None
    scratch: Path

    def named(self, model: str) -> str:
        """A model of the paper at this scale."""
        return model if self.scale == "paper" else catalog.card(model).tiny


def parity(how: How) -> Iterator[Fact]:
    """Every embedded model under every cache that fits it: the processor against the device."""
    settings = {"num_samples": 2, "batch_size": 2}
    for model, card in catalog.cards().items():
        if not card.embedded or card.pipeline:
            continue
        steps = "ddim10" if card.sampling.steps.startswith("ddim") else "10"
        for method in registry.names("caches"):
            if (run := _fitting(model, method, {**settings, "steps": steps})) is None:
                continue
            conditioning.prepare(run, how.scratch)
            ours = _latents(run, how, "cpu")
            theirs = _latents(run, how, how.device)
            off = relative(theirs, ours)
            yield {
                "model": model,
                "cache": run.cache.short,
                "off": off,
                "same_again": torch.equal(theirs, _latents(run, how, how.device)),
                "ok": off < CLOSE,
            }


def _fitting(model: str, method: str, settings: Fact) -> Run | None:
    """A run of a method with an interval of 2 where it has one; None where it does not fit."""
    for spec in (f"{method}(n=2)", method):
        try:
            run = make_run(model, spec, settings)
        except SkipditError:
            continue
        return run
    return None


def _latents(run: Run, how: How, device: str) -> torch.Tensor:
    network = batches.network(run, device=device)
    indices = range(run.batch_size)
    return batches.latents_of(run, indices, model=network, root=how.scratch).cpu()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """|a - b| / |b|, in float64."""
    a, b = a.double().cpu(), b.double().cpu()
    return float((a - b).norm() / b.norm())


def speed(how: How) -> Iterator[Fact]:
    """Time, FLOP/s and memory of a step, and the speedups beside what counting promises."""
    for table, name, batch, precision, steps, caches in SPEED:
        model = how.named(name)
        settings = _settings(model, batch=batch, precision=precision, steps=steps)
        reference = make_run(model, NONE, settings)
        body = loop_of(reference, device=how.device)
        uncached = None
        for spec in (NONE, *caches):
            run = make_run(model, spec, settings)
            counted = plan(run, batch=batch)
            took = timed(partial(body, run.cache), how.device).median
            uncached = uncached or took
            peak = peak_bytes(partial(body, run.cache, brief=True), device=how.device)
            yield {
                "table": table,
                "model": model,
                "batch": batch,
                "precision": precision,
                "cache": run.cache.short,
                "step_ms": 1000 * took / counted.steps,
                "tflops": counted.flops / took / 1e12 if counted.flops else None,
                "speedup": uncached / took,
                "ideal": counted.ideal_speedup,
                "memory_mib": peak / 2**20,
            }
        clean()


def _settings(model: str, *, batch: int, precision: str, steps: int) -> Fact:
    respaced = catalog.card(model).sampling.steps.startswith("ddim")
    return {
        "num_samples": batch,
        "batch_size": batch,
        "precision": precision,
        "steps": f"ddim{steps}" if respaced else str(steps),
        "weights": "random",
    }


def timed(work: Callable[[], object], device: str, repeats: int = 3) -> Latency:
    """How long a piece of work takes, after one warm-up."""
    return measure({"": work}, reference="", repeats=repeats, device=device)[""]


def clean() -> None:
    """Forget what is loaded, and give back what is not in use."""
    gc.collect()
    loaded.release()


def official(how: How) -> Iterator[Fact]:
    """Ours and the official networks, with the same weights: one call each, by turns."""
    if how.official is None:
        yield {"skipped": "give --official FOLDER, a checkout of the official code"}
        return
    for task in authors.CASES:
        ours, theirs, inputs = authors.both(task, how.official, device=how.device)
        for kind in ("float32", "tf32", "float16"):
            dtype = getattr(torch, dtype_of(kind))
            for network in (ours, theirs):
                torch.nn.Module.to(network, dtype)
            x, timestep, *labels = inputs.values()
            x = x.to(dtype)
            calls = (
                lambda: ours(x, timestep, *labels, return_dict=False)[0],  # noqa: B023
                lambda: theirs(x, timestep, *labels),  # noqa: B023
            )
            with products(kind), torch.no_grad():
                off = relative(*(call() for call in calls))
                seconds = [timed(call, how.device).median for call in calls]
            yield {
                "task": task,
                "batch": len(x),
                "precision": kind,
                "ours_ms": 1000 * seconds[0],
                "official_ms": 1000 * seconds[1],
                "ratio": seconds[0] / seconds[1],
                "off": off,
                "ok": off < OFFICIAL[kind],
            }
        clean()


def compiled(how: How) -> Iterator[Fact]:
    """What compiling the layers gives, with a cache and without; the same latents as without."""
    for name, batch in (("dit-xl-2-skip", 8), ("taichi-skip", 1)):
        model = how.named(name)
        settings = _settings(model, batch=batch, precision="float16", steps=6)
        took: dict[tuple[str, bool], Latency] = {}
        made: dict[tuple[str, bool], torch.Tensor] = {}
        for compile in (False, True):
            settings["compile"] = compile
            body = loop_of(make_run(model, NONE, settings), device=how.device)
            for spec in (NONE, "skip-cache(n=2)"):
                run = make_run(model, spec, settings)
                took[spec, compile] = timed(partial(body, run.cache), how.device)
                made[spec, compile] = _latents(run, how, how.device)
                if compile:
                    off = relative(made[spec, True], made[spec, False])
                    yield {
                        "model": model,
                        "batch": batch,
                        "cache": run.cache.short,
                        "eager_ms": 1000 * took[spec, False].median,
                        "compiled_ms": 1000 * took[spec, True].median,
                        "gain": took[spec, False].median / took[spec, True].median,
                        "compile_s": took[spec, True].compiling,
                        "off": off,
                        "ok": off < HALF,
                    }
            clean()


def decoding(how: How) -> Iterator[Fact]:
    """The autoencoders at the sizes of the tables: seconds, memory, what precision changes."""
    for name, batch in (("dit-xl-2", 16), ("taichi", 1), ("hunyuan-dit", 1), ("latte", 1)):
        card = drawn.card(catalog.card(how.named(name)))
        network = networks.meta(card)
        shape = network.inputs(1, device="meta")["hidden_states"].shape[1:]
        latents = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
        latents, strict = latents.to(how.device), None
        for precision in PRECISIONS:
            work = partial(
                decode.to_pixels,
                latents,
                card,
                channel_dim=network.CHANNEL_DIM,
                precision=precision,
            )
            pixels = work()
            strict = pixels if strict is None else strict
            yield {
                "model": card.name,
                "samples": batch,
                "precision": precision,
                "seconds": timed(work, how.device, repeats=2).median,
                "memory_mib": peak_bytes(work, device=how.device) / 2**20,
                "pixels_that_differ": float((pixels != strict).mean()),
            }
        clean()


def precision(how: How) -> Iterator[Fact]:
    """One call of each network in each precision against float64."""
    for name in FULL:
        model, exact = how.named(name), None
        for kind in ("float64", *PRECISIONS):
            run = make_run(model, NONE, _settings(model, batch=1, precision="float32", steps=2))
            network = batches.network(run, device=how.device)
            dtype = getattr(torch, dtype_of(kind))
            torch.nn.Module.to(network, dtype)
            inputs = network.inputs(1, device=how.device)
            draw = torch.Generator().manual_seed(0)
            for key, value in inputs.items():
                if value.is_floating_point():
                    inputs[key] = torch.randn(value.shape, generator=draw).to(how.device, dtype)
            inputs["timestep"] = inputs["timestep"] + 500
            with products("float32" if kind == "float64" else kind), torch.no_grad():
                found = network(**inputs, return_dict=False)[0]
            exact = found if exact is None else exact
            off = relative(found, exact)
            if kind != "float64":
                yield {"model": model, "precision": kind, "off": off, "ok": off < EXACT[kind]}
            loaded.release()
        clean()


def sweep(how: How) -> Iterator[Fact]:
    """`skipdit cache-sweep` itself with two workers, and again, which has nothing left to do."""
    root = how.scratch / "sweep"
    for model, cache in (("digits-skip", "skip-cache(n=2)"), ("painted-digits", "fora(n=2)")):
        command = [sys.executable, "-m", "skipdit_cli", "cache-sweep", "--model", model]
        command += ["--cache", cache, "--num-samples", "16", "--batch-size", "8", "--workers", "2"]
        command += ["--device", how.device, "--repeats", "2", "--results", str(root), "--json"]
        before: list[str] = []
        for again in (False, True):
            began = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            fact = {"model": model, "again": again, "wall_s": time.perf_counter() - began}
            scored = [row.get("psnr") for row in json.loads(done.stdout or "{}").get("rows", [])]
            ok = done.returncode == 0 and (not again or scored == before)
            before = scored
            yield {**fact, "ok": ok, **({} if ok else {"said": done.stderr[-500:]})}
    wanted = provenance.device_name(how.device)
    for file in sorted((root / "samples").glob("*/run.json")):
        device = json.loads(file.read_text())["provenance"]["device"]
        yield {"run": file.parent.name, "device": device, "ok": device == wanted}
