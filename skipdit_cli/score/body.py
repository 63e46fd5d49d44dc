"""The denoising loop of a run's first batch, as something to time.

Nothing is decoded or written, and the noise of the steps is drawn beforehand. Classes and texts are
zeros: a dynamic method, which looks at features, may reuse more or less than in a run.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from skipdit_cli.cache import NONE, Cache
from skipdit_cli.checkpoints.pipeline import WORD
from skipdit_cli.generate import pipelines, rng
from skipdit_cli.generate.batch import network
from skipdit_cli.generate.hooks import Session
from skipdit_cli.generate.loop import denoise
from skipdit_cli.precision import products
from skipdit_cli.run import Run


def loop_of(
    run: Run,
    *,
    device: str = "cpu",
    weights_path: Path | None = None,
    offload: str = "",
) -> Callable[..., None]:
    """The loop as a function of the cache and, where these are others, the steps.

    It runs in the precision of the run.

    With `brief=True` it ends at the first full step that follows another kind of step: long enough
    to hold everything in memory that a whole loop does.

    Args:
        weights_path: a checkpoint file instead of the known place.
        offload: what of a pipeline is kept off the GPU while it is not needed.
    """
    if run.card.pipeline:
        return _of_pipeline(run, device=device, offload=offload)
    model = network(run, device=device, weights_path=weights_path)
    given = model.inputs(run.batch_size, device=device)  # texts and classes cost what any do
    shape = given.pop("hidden_states").shape[1:]
    del given["timestep"]
    x, noise = (
        rng.batch_normal(shape, seed=run.seed, indices=range(run.batch_size), step=step).to(device)
        for step in (rng.INITIAL, 0)
    )

    def body(cache: Cache, *, steps: str = run.steps, brief: bool = False) -> None:
        with products(run.precision), suppress(_Enough):
            denoise(
                model,
                x,
                cache=cache,
                sampler=run.sampler,
                steps=steps,
                step_noise=lambda step: noise,
                conditions=given,
                null=given,
                guidance=run.guidance,
                trained=run.card.sampling,
                compile=run.compile,
                on_step=_stop if brief else None,
            )

    return body


def _of_pipeline(run: Run, *, device: str, offload: str) -> Callable[..., None]:
    """The same of a pipeline: its call without its autoencoder, texts encoded once."""
    pipe = pipelines.of_run(run, device=device, offload=offload)
    pipelines.encode_once(pipe)
    known = run.prompts or (WORD,)
    indices = range(run.batch_size)
    prompts = [known[i % len(known)] for i in indices]

    def body(cache: Cache, *, steps: str = run.steps, brief: bool = False) -> None:
        with suppress(_Enough):
            pipelines.called(
                run,
                indices,
                prompts,
                pipe=pipe,
                output_type="latent",
                cache=cache,
                steps=steps,
                on_step=_stop if brief else None,
            )

    return body


def _stop(session: Session, x: Tensor) -> None:
    """End at the first full step that follows another kind of step."""
    here, before = session.reused[session.step], session.reused[session.step - 1]
    if session.step and not here and (before or session.cache.name == NONE):
        raise _Enough


class _Enough(BaseException):
    """Ends a loop early."""
