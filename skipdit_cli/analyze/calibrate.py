"""Calibration of caching methods: what they have to know of a model, measured as it samples.

The samples of an uncached run are generated; at every step but the first a method looks at what
entered and left the sites it watches, and at the step before (`observe` in its file), and in the
end makes its settings of that (`fit`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from skipdit_cli import registry
from skipdit_cli.checkpoints import local, networks
from skipdit_cli.errors import SkipditError, UsageError, unknown
from skipdit_cli.generate import conditioning
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.options import Progress
from skipdit_cli.generate.samples import latents_of
from skipdit_cli.precision import dtype_of, products
from skipdit_cli.recipe import calibration
from skipdit_cli.recipe.calibration import Calibration
from skipdit_cli.run import Run
from skipdit_cli.sites import Seen, Site, gated, place_of, site_modules
from skipdit_cli.storage import provenance

if TYPE_CHECKING:
    from skipdit_cli.caches import Method
    from skipdit_cli.models import Network


def calibrate(
    run: Run,
    method: str,
    *,
    root: Path,
    device: str = "cpu",
    weights_path: Path | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Generate the samples of an uncached run and measure what a method needs.

    Args:
        run: what is generated; nothing of it is decoded or kept.
        method: one of `calibration.methods`.
        root: the results folder, for text embeddings.
        progress: called with (model calls done, calls in all) after every step.
    Raises:
        UsageError: the method needs no calibration, or there are too few steps for one.
        MissingAssetError: the weights are not here.
        SkipditError: what the model computes is not finite.
    """
    if method not in calibration.methods():
        raise unknown("method", method, calibration.methods(), place="--method")
    chosen = registry.load("caches", method)
    if len(run.timesteps) < 2:
        raise UsageError(
            "a calibration needs two steps or more", place="--steps", fix="take more steps"
        )
    local.require(run.card, path=weights_path)
    conditioning.prepare(run, root, device=device)
    model = networks.load(run.card, path=weights_path, device=device, dtype=dtype_of(run.precision))
    batches = range(0, run.num_samples, run.batch_size)
    observed, calls = [], 0
    for first in batches:
        indices = range(first, min(first + run.batch_size, run.num_samples))

        def on_step(session: Session, x: Tensor) -> None:
            nonlocal calls
            calls += 1
            if progress:
                progress(calls, len(batches) * len(run.timesteps))

        with watched(model, chosen, samples=len(indices), guided=run.guided) as seen:
            latents_of(run.reference, indices, model=model, root=root, on_step=on_step)
        observed.append(torch.stack(seen, dim=1))  # [samples, steps - 1, ...]
    with products(run.precision):  # which it was measured in
        made = provenance.collect(import_torch=True)
    everything = torch.cat(observed).double().cpu()
    if not everything.isfinite().all():
        raise SkipditError(
            "what it computes is not finite", place=run.model, fix="take --precision float32"
        )
    return Calibration(
        model=run.model,
        method=method,
        weights=local.fingerprint(run.card, path=weights_path),
        sampler=run.sampler.name,
        steps=run.steps,
        guidance=run.guidance,
        num_samples=run.num_samples,
        seed=run.seed,
        pairs=everything.shape[0] * everything.shape[1],
        settings=dict(chosen.fit(everything.numpy())),
        provenance=made,
    )


@contextmanager
def watched(
    model: "Network", method: "Method", *, samples: int, guided: bool
) -> Iterator[list[Tensor]]:
    """A list that gets what a method observes at every call of the model but the first.

    Args:
        samples: in a batch.
        guided: whether guidance doubles what the model sees.
    Yields:
        Tensors [samples, ...], as the method's `observe` gives them.
    """
    sites, layout = site_modules(model), model.layout()
    entered: dict[Site, Tensor] = {}
    left: dict[Site, Tensor] = {}
    observed: list[Tensor] = []
    before: Seen | None = None

    closing: dict[Site, dict[str, Any]] = {}  # gate and residual, which a method does not see

    def enters(site: Site) -> Any:
        def hook(module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
            entered[site] = place_of(model, site.kind).entering(module, args, kwargs)
            closing[site] = {name: kwargs.pop(name, None) for name in ("gate", "residual")}
            return args, kwargs

        return hook

    def leaves(site: Site) -> Any:
        def hook(module: nn.Module, args: Sequence[Any], output: Any) -> Any:
            place = place_of(model, site.kind)
            left[site] = place.leaving(output)
            return place.replaced(output, gated(left[site], **closing[site]))

        return hook

    def called(module: nn.Module, args: Sequence[Tensor], output: tuple[Tensor]) -> None:
        nonlocal before
        now = Seen(dict(entered), dict(left), output[0], samples, guided)
        if before is not None:
            observed.append(method.observe(layout, now, before))
        before = now

    handles = [model.register_forward_hook(called)]
    for site in method.watched(layout):
        handles.append(sites[site].register_forward_pre_hook(enters(site), with_kwargs=True))
        handles.append(sites[site].register_forward_hook(leaves(site)))
    try:
        yield observed
    finally:
        for handle in handles:
            handle.remove()
