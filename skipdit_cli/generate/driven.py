"""Drive a pipeline of diffusers: its own call, with a cache on its transformers.

The steps are counted by its scheduler. Every transformer has a session of its own, over the steps
at which it is called; where it is called several times in a step, each of these calls is a branch,
which keeps its own. What a block returns beside hidden states is what it last returned.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from diffusers.hooks import ModelHook
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from skipdit_cli.cache import Cache
from skipdit_cli.checkpoints.denoiser import Blocks, Packing, Stream, channel_dim
from skipdit_cli.checkpoints.traced import Traced
from skipdit_cli.errors import SkipditError
from skipdit_cli.generate.compiling import compiled, instead
from skipdit_cli.generate.hooks import Session, standing
from skipdit_cli.generate.loop import swapped
from skipdit_cli.sites import BOTH, CONDITIONAL, NULL_FIRST, Site

OnStep = Callable[[Session, Tensor], None]


class _Hook(ModelHook):
    """Hands every call of one site to the session, as one tensor in and one out."""

    def __init__(self, session: Session, site: Site, stream: Stream) -> None:
        super().__init__()
        self.session, self.site, self.stream = session, site, stream
        self._last: dict[str, Any] = {}  # by branch, what the site returned, hidden states apart

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if self.site in self.session.foreign:
            return self._foreign(module, args, kwargs)
        return (self._layer if self.site.kind == "layer" else self._part)(args, kwargs)

    def _foreign(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As diffusers has it, but that a stream which a block drops goes on as it came."""
        if self.site.kind != "layer":
            forward = self.fn_ref.original_forward
            return self.session.run_foreign(self.site, module, forward, args, kwargs)

        def compute(*args: Any, **kwargs: Any) -> Any:
            output = self.fn_ref.original_forward(*args, **kwargs)
            states = self.stream.leaving(output, self.stream.entering(args, kwargs))
            return self.stream.returned(states, None)

        return self.session.run_foreign(self.site, module, compute, args, kwargs)

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
                cache,
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
                blocks = Blocks(
                    module, self.traced.order, self.traced.skips, steady=self.traced.steady
                )
                _look_up(session, blocks)
                if self._compile:
                    every = {**blocks.modules, **self._layers(module)}
                    stack.enter_context(compiled(every, self.cache.hooked))
                hooks = [
                    (blocks.modules[site], _Hook(session, site, blocks.streams[site]))
                    for site in self.cache.hooked
                ]
                stack.enter_context(standing(hooks, self.cache))
                stack.callback(session.reset)
                handle = module.register_forward_pre_hook(
                    functools.partial(self._begin, number), with_kwargs=True
                )
                stack.callback(handle.remove)
                if self._guides:
                    stack.enter_context(_guided(module, session))
            own = scheduler.step
            stack.callback(setattr, scheduler, "step", own)
            scheduler.step = self._counted(own)
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
            x = args[0] if args else kwargs["hidden_states"]
            session.look(x, channel_dim=channel_dim(module))
        self._calls += 1

    def _counted(self, own: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(own)
        def step(*args: Any, **kwargs: Any) -> Any:
            result = own(*args, **kwargs)
            if self._on_step:
                self._on_step(self.session, result[0])
            self.step, self._calls = self.step + 1, 0
            return result

        return step

    def finish(self) -> None:
        """Raise a SkipditError where the call took fewer steps than its plan."""
        if self.step < len(self.traced.timesteps):
            planned = len(self.traced.timesteps)
            raise self._strays(f"ends after {self.step} steps, and its plan has {planned}")


def _guided(module: nn.Module, session: Session) -> AbstractContextManager[None]:
    """Let the method of a cache decide which halves of guidance a transformer computes.

    Its batch is [null; conditional], of the same latents; a method sees [conditional; null].
    """
    compute = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        x = args[0] if args else kwargs["hidden_states"]
        rows = len(x)

        def of(halves: str) -> Tensor:
            def part(value: Any) -> Any:
                if not isinstance(value, Tensor) or not value.dim() or len(value) != rows:
                    return value
                if halves in (NULL_FIRST, BOTH):
                    return value if halves == NULL_FIRST else swapped(value)
                return value.chunk(2)[halves == CONDITIONAL]

            given, named = tree_map(part, (args, kwargs))
            output: Tensor = compute(*given, **named)[0]
            return output

        return (swapped(session.guide(x.chunk(2)[1], of, channel_dim=channel_dim(module))),)

    return instead(module, forward)


def _look_up(session: Session, blocks: Blocks) -> None:
    """Let diffusers' own hooks see on which modules they stand."""
    from diffusers.hooks._helpers import TransformerBlockMetadata

    for site, hook in session.foreign.items():
        if site not in blocks.modules:
            continue
        try:
            hook.initialize_hook(blocks.modules[site])
        except ValueError:  # of a class that diffusers does not know
            stream = blocks.streams[site]
            hook._metadata = TransformerBlockMetadata(
                return_hidden_states_index=0,
                hidden_states_argument_name=stream.names[-1],
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
