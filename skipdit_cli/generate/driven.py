"""Drive a pipeline of diffusers: its own call, with a cache on its transformers.

The steps are counted by its scheduler. Every transformer has a session of its own, over the steps
at which it is called; where it is called several times in a step, each of these calls is a branch,
which keeps its own. What a block returns beside hidden states is what it last returned.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from diffusers.hooks import ModelHook
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from skipdit_cli.cache import Cache
from skipdit_cli.checkpoints import scheduled
from skipdit_cli.checkpoints.denoiser import Blocks, Packing, Stream, as_batch, channel_dim, latents
from skipdit_cli.checkpoints.traced import Traced
from skipdit_cli.errors import SkipditError
from skipdit_cli.generate.compiling import compiled, instead
from skipdit_cli.generate.hooks import Session, standing
from skipdit_cli.generate.loop import swapped
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL_FIRST, Site

OnStep = Callable[[Session, Tensor], None]
NAMES = ("hidden_states", "encoder_hidden_states")  # that diffusers' hooks see


class _Hook(ModelHook):
    """Hands every call of one site to the session, as one tensor in and one out."""

    def __init__(
        self, session: Session, site: Site, stream: Stream, *, apart: bool = False
    ) -> None:
        """
        Args:
            apart: whether diffusers' own hooks see text and image apart.
        """
        super().__init__()
        self._apart = apart
        self._at, self._number = (-1, ""), 0  # step and branch of the last call, and its number
        self.session, self.site, self.stream = session, site, stream
        self._last: dict[str, Any] = {}  # by branch, what the site returned, hidden states apart

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """A module that a block calls several times keeps what each of these calls gave."""
        at = self.session.step, self.session.branch
        self._number = self._number + 1 if at == self._at else 0
        self._at = at
        with self.session.again(self._number) if self._number else nullcontext():
            if self.site in self.session.foreign:
                return self._foreign(module, args, kwargs)
            return (self._layer if self.site.kind == "layer" else self._part)(args, kwargs)

    def _foreign(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As diffusers has it: hidden states of image and text, or all of them as one."""
        if self.site.kind != "layer":
            forward = self.fn_ref.original_forward
            return self.session.run_foreign(self.site, module, forward, args, kwargs)
        entered, branch = self.stream.entering(args, kwargs), self.session.branch
        packing = Packing.of(entered)
        states = [*reversed(entered)] if self._apart else [packing.pack(entered)]

        def back(given: Sequence[Tensor]) -> list[Tensor]:
            return [*reversed(given)] if self._apart else packing.unpack(given[0])

        def compute(**given: Tensor) -> Any:
            changed = back([given[name] for name in NAMES[: len(states)]])
            positional, named = self.stream.given(args, kwargs, changed)
            output = self.fn_ref.original_forward(*positional, **named)
            self._last[branch] = _without_tensors(output)
            left = self.stream.leaving(output, changed)
            return (*reversed(left),) if self._apart else packing.pack(left)

        given = dict(zip(NAMES, states, strict=False))
        output = self.session.run_foreign(self.site, module, compute, (), given)
        left = back(output if isinstance(output, tuple) else [output])
        return self.stream.returned(left, self._last.get(branch))

    def _layer(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        entered = self.stream.entering(args, kwargs)
        packing = Packing.of(entered)
        packed, branch = packing.pack(entered), self.session.branch

        def compute(hidden_states: Tensor) -> Tensor:
            states = entered if hidden_states is packed else packing.unpack(hidden_states)
            given, named = self.stream.given(args, kwargs, states)
            output = self.fn_ref.original_forward(*given, **named)
            self._last[branch] = _without_tensors(output)
            return packing.pack(self.stream.leaving(output, states))

        output = packing.unpack(self.session.run(self.site, compute, packed))
        return self.stream.returned(output, self._last.get(branch))

    def _part(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        (entered,), branch = self.stream.entering(args, kwargs), self.session.branch

        def compute(hidden_states: Tensor) -> Tensor:
            given, named = self.stream.given(args, kwargs, [hidden_states])
            output = self.fn_ref.original_forward(*given, **named)
            leaves, form = tree_flatten(output)
            states = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
            others = [None if isinstance(leaf, Tensor) else (leaf,) for leaf in leaves]
            self._last[branch] = form, others, Packing.of(states)
            return Packing.of(states).pack(states)

        output = self.session.run(self.site, compute, entered)
        form, others, packing = self._last[branch]
        states = iter(packing.unpack(output))
        return tree_unflatten([next(states) if each is None else each[0] for each in others], form)

    def forget(self) -> None:
        """Forget what the site returned."""
        self._last.clear()


def _without_tensors(output: Any) -> Any:
    """What a block returned, with True in place of tensors."""
    if not isinstance(output, tuple):
        return None
    return tuple(True if isinstance(each, Tensor) else each for each in output)


class Driven:
    """A pipeline with a cache on it, during one call.

    Attributes:
        sessions: of each stretch of steps.
        step: how many steps are done.
        cached_steps: those at which sites were reused, once the call has ended.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        cache: Cache,
        traced: Traced,
        on_step: OnStep | None = None,
        *,
        compile: bool = False,
    ) -> None:
        cache = cache.at(traced.timesteps)
        self.cache, self.traced, self.step, self._on_step = cache, traced, 0, on_step
        self._compile = compile
        self._modules, self._calls = modules, 0
        self.cached_steps: list[int] = []
        self._guides = traced.doubled and cache.method.has("guide")
        self.sessions = [
            Session(
                cache.in_turn(steps, len(traced.timesteps)),
                traced.timesteps[steps.start : steps.stop],
                guided=self._guides,
                sigmas=traced.sigmas[steps.start : steps.stop],
                flow=traced.flow,
            )
            for steps in traced.stretches
        ]

    @property
    def session(self) -> Session:
        """That of the step at hand."""
        return self.sessions[self._stretch]

    @property
    def _stretch(self) -> int:
        for number, steps in enumerate(self.traced.stretches):
            if self.step in steps:
                return number
        raise self._strays(f"takes more than the {len(self.traced.timesteps)} steps of its plan")

    @property
    def reused(self) -> list[frozenset[Site]]:
        """Of all steps, the sites that were reused."""
        return [sites for session in self.sessions for sites in session.reused]

    def _strays(self, problem: str) -> SkipditError:
        return SkipditError(f"{self.cache.layout.family} {problem}")

    @contextmanager
    def attached(self, scheduler: Any) -> Iterator[None]:
        """The cache's hooks on the transformers; the scheduler tells of its steps."""
        with ExitStack() as stack:
            for number, (module, session) in enumerate(
                zip(self._turns(), self.sessions, strict=True)
            ):
                blocks = Blocks.of(module, self.traced)
                streams = [blocks.streams[site] for site in session.foreign if site.kind == "layer"]
                apart = {len(stream.names) for stream in streams} == {2}
                _look_up(session, blocks, apart=apart)
                if self._compile:
                    every = {**blocks.modules, **self._layers(module)}
                    stack.enter_context(compiled(every, self.cache.hooked))
                hooks = [
                    (blocks.modules[site], _Hook(session, site, blocks.streams[site], apart=apart))
                    for site in self.cache.hooked
                ]
                stack.enter_context(standing(hooks, self.cache))
                stack.callback(session.reset)
                handle = module.register_forward_pre_hook(
                    functools.partial(self._begin, number), with_kwargs=True
                )
                stack.callback(handle.remove)
                if self._guides:
                    stack.enter_context(_guided(module, session, self.traced.conditional_first))
            stack.callback(scheduled.instead(scheduler, step=self._counted))
            yield

    def _layers(self, module: nn.Module) -> dict[Site, nn.Module]:
        """The blocks of a transformer, also of one whose hidden states change their shape."""
        paths = enumerate(self.traced.order)
        return {Site("layer", layer): module.get_submodule(path) for layer, path in paths}

    def _turns(self) -> list[nn.Module]:
        """The transformer of each stretch of steps."""
        turns = [self.traced.turns[steps.start] for steps in self.traced.stretches]
        if len(set(turns)) < len(turns):
            raise self._strays("goes back to a transformer that it has left")
        return [self._modules[turn] for turn in turns]

    def _begin(
        self, number: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """A transformer is called."""
        if number != self._stretch:
            raise self._strays(f"calls another transformer at step {self.step} than its plan says")
        session, first = self.sessions[number], self.traced.stretches[number].start
        session.begin(self.step - first, branch=str(self._calls))
        if self.cache.method.SEES_INPUT:
            session.look(latents(module, args, kwargs), channel_dim=channel_dim(module))
        self._calls += 1

    def _counted(self, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = own(*args, **kwargs)
        if self._on_step:
            self._on_step(self.session, result[0])
        self.step, self._calls = self.step + 1, 0
        return result

    def finish(self) -> None:
        """Raise a SkipditError where the call took fewer steps than its plan."""
        if self.step < len(self.traced.timesteps):
            planned = len(self.traced.timesteps)
            raise self._strays(f"ends after {self.step} steps, and its plan has {planned}")


def _guided(
    module: nn.Module, session: Session, conditional_first: bool
) -> AbstractContextManager[None]:
    """Let the method of a cache decide which halves of guidance a transformer computes.

    A method sees a batch [conditional; null], whatever the order of the pipeline is.
    """
    compute = module.forward

    def ours(value: Tensor) -> Tensor:
        return value if conditional_first else swapped(value)

    def forward(*args: Any, **kwargs: Any) -> Any:
        x = latents(module, args, kwargs)
        rows, place = len(x), 0 if conditional_first else 1
        listed = any(isinstance(each, list) for each in (*args[:1], kwargs.get("hidden_states")))

        def of(halves: str) -> Tensor:
            def part(value: Any) -> Any:
                each = isinstance(value, list) and listed
                batch = each or (isinstance(value, Tensor) and value.dim() > 0)
                if not batch or len(value) != rows:
                    return value
                null, conditional = value[: rows // 2], value[rows // 2 :]
                if conditional_first:
                    null, conditional = conditional, null
                if halves == CONDITIONAL:
                    return conditional
                if halves not in (NULL_FIRST, BOTH):
                    return null
                both = (null, conditional) if halves == NULL_FIRST else (conditional, null)
                return [*both[0], *both[1]] if each else torch.cat(both)

            given, named = tree_map(part, (args, kwargs), is_leaf=lambda v: isinstance(v, list))
            return as_batch(compute(*given, **named)[0])

        latent = x.chunk(2)[place]
        return (ours(session.guide(latent, of, channel_dim=channel_dim(module))),)

    return instead(module, forward)


def _look_up(session: Session, blocks: Blocks, *, apart: bool) -> None:
    """Let diffusers' own hooks see on which modules they stand.

    Args:
        apart: whether they see the hidden states of text and image apart, the image first.
    """
    from diffusers.hooks._helpers import TransformerBlockMetadata

    for site, hook in session.foreign.items():
        if site not in blocks.modules:
            continue
        if site.kind != "layer":
            hook.initialize_hook(blocks.modules[site])
            continue
        hook._metadata = TransformerBlockMetadata(
            return_hidden_states_index=0,
            return_encoder_hidden_states_index=1 if apart else None,
            _cls=type(blocks.modules[site]),
        )


def drive(
    pipe: Any,
    modules: Sequence[nn.Module],
    cache: Cache,
    traced: Traced,
    *,
    on_step: OnStep | None = None,
    compile: bool = False,
    **arguments: Any,
) -> tuple[Any, Driven]:
    """One call of a pipeline.

    Args:
        modules: its transformers.
        traced: what the call does.
        on_step: called after every step with the session and the latents that it left.
        compile: the blocks of the transformers by torch.compile.
        arguments: of the call.
    Returns:
        What the call gave, images or clips of all prompts, and what the cache did.
    Raises:
        SkipditError: it does not do what its plan says.
    """
    driven = Driven(modules, cache, traced, on_step, compile=compile)
    pipe.set_progress_bar_config(disable=True)
    with driven.attached(pipe.scheduler), torch.no_grad():
        result = pipe(**arguments)
        driven.finish()
        driven.cached_steps = [step for step, sites in enumerate(driven.reused) if sites]
    return result[0], driven
