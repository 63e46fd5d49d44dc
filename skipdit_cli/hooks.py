"""Put a cache on a model and take it off again.

One hook class serves every method: it stands at each site the method names, knows the step and the
guidance branch, and counts what was computed. Built on diffusers' `HookRegistry`.

A method that diffusers has itself names diffusers' hooks in place of a `forward`. The session calls
them, they are not registered: so they see one tensor in and one out whatever the class of the site,
every call has a cache context (the guidance branch), and nothing of theirs stays on the model.
"""

import inspect
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.hooks.hooks import CacheContext, HookFunctionReference, StateManager
from torch import Tensor, nn

from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.sites import Call, Place, Site, place, site_modules, where
from skipdit_cli.spec import Cache

_NAME = "skipdit"


class Session:
    """The state of a cache on a model during one generation.

    Attributes:
        layout: of the model.
        cache: the cache, with the model family's defaults filled in.
        timesteps: of every step.
        guided: whether batches hold both halves of classifier-free guidance, [cond; null].
        unguided: per step, whether the null half of guidance is computed alone.
        predictor: diffusers' hook that predicts the null half of guidance, or None.
        step: index of the step that `begin` named; -1 before the first.
        computed: Counter of (step, site) for every hooked site that was really computed.
    """

    def __init__(
        self,
        model: nn.Module,
        cache: Cache,
        timesteps: Sequence[int],
        *,
        guided: bool = False,
    ) -> None:
        self.layout, self.where = model.layout(), where(model)
        self.cache = cache.resolve(self.layout)
        self.timesteps = tuple(timesteps)
        self.announced = (
            None
            if self.cache.dynamic
            else self.cache.reused(self.layout, self.timesteps, guided=guided)
        )
        self.foreign: dict[Site, ModelHook] = self.cache.hooks(
            self.layout, self.timesteps, guided=guided
        )
        self.predictor = self.cache.predictor(self.timesteps, guided=guided)
        self.guided = guided
        self.unguided = self.cache.unguided(self.layout, timesteps, guided=guided)
        self.reset()

    @property
    def reused(self) -> list[frozenset[Site]]:
        """Per step, the sites that are reused; for a dynamic method, those that were, so far."""
        if self.announced is not None:
            return self.announced
        skipped = self.cache.module.skipped(self.cache.config, self.layout)
        hooked = self.cache.module.hooked(self.cache.config, self.layout)
        computed = [
            {site for site in hooked if (step, site) in self.computed}
            for step in range(len(self.timesteps))
        ]
        return [skipped if some and not some & skipped else frozenset() for some in computed]

    def reset(self) -> None:
        """Forget everything stored; the next step is step 0."""
        self.step = -1
        self.branch = ""
        self.stores: dict[str, dict] = defaultdict(dict)
        self.others: dict[tuple[str, Site], tuple] = {}  # what sites return beside hidden states
        self.computed: Counter[tuple[int, Site]] = Counter()
        for manager in self._managers():
            manager.reset()
        if self.predictor is not None:
            self.predictor.state.reset()

    def begin(self, step: int, *, branch: str = "") -> None:
        """Say which step comes next, and for which guidance branch the model is called."""
        if not 0 <= step < len(self.timesteps):
            raise UsageError(f"step {step} is outside the schedule of {len(self.timesteps)} steps")
        self.step, self.branch = step, branch
        for manager in self._managers():
            manager.set_context(CacheContext(branch))

    def run(self, site: Site, compute: Callable, hidden_states):
        """What a hooked site gives at this step, as the method has it: computed, or reused.

        Args:
            compute: the site itself, a function of the hidden states alone.
        """
        compute = partial(self._compute, site, compute)
        if site in self.foreign:
            return _call(self.foreign[site], compute, hidden_states)
        reused = frozenset() if self.announced is None else self.announced[self.step]
        call = Call(
            site=site,
            reuse=site in reused,
            cached=bool(reused),
            guided=self.guided and not self.unguided[self.step],
            last=self.step == len(self.timesteps) - 1,
            store=self.stores[self.branch],
        )
        return self.cache.module.forward(
            self.cache.config, self.layout, call, compute, hidden_states
        )

    def _compute(self, site: Site, compute: Callable, hidden_states):
        self.computed[self.step, site] += 1
        return compute(hidden_states)

    def _managers(self) -> Iterator[StateManager]:
        """Where diffusers' hooks keep their state, which depends on the cache context."""
        for hook in self.foreign.values():
            yield from (value for value in vars(hook).values() if isinstance(value, StateManager))


def _call(hook: ModelHook, compute: Callable, hidden_states):
    """A diffusers hook at a site, as its registry would call it."""
    hook.fn_ref = HookFunctionReference()
    hook.fn_ref.original_forward = compute
    return hook.new_forward(None, hidden_states)


def with_predictor(model: nn.Module, hook: ModelHook, inputs: dict) -> Tensor:
    """A guided call of a model whose null half diffusers' hook predicts on most steps.

    diffusers has the null half first in a batch, these networks have it second.

    Args:
        inputs: by name, [conditional; null] each.
    Returns:
        The output of both halves, [conditional; null].
    """

    def swapped(value):
        return torch.cat(value.chunk(2)[::-1]) if isinstance(value, Tensor) else value

    x = inputs["hidden_states"]
    video = "BCFHW" if model.CHANNEL_DIM == 1 else "BFCHW"
    hook.tensor_format = video if x.dim() == 5 else "BCHW"
    hook.uncond_cond_input_kwargs_identifiers = list(inputs)
    hook.fn_ref = HookFunctionReference()
    hook.fn_ref.original_forward = partial(model, return_dict=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.meshgrid", UserWarning)
        (output,) = hook.new_forward(model, **{key: swapped(v) for key, v in inputs.items()})
    return swapped(output)


class SiteHook(ModelHook):
    """Hands every call of one site to the session: the hidden state alone, in and out.

    What a site returns besides its hidden state is, where the site is reused, what it returned when
    it was last computed.

    A site whose output is gated gets its gate as a keyword. The method sees what comes before the
    gate, unless it says `AFTER_GATE`: then what it keeps is reused with the old gate.
    """

    def __init__(self, session: Session, site: Site, place: Place) -> None:
        super().__init__()
        self.session, self.site, self.place = session, site, place

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        gate = kwargs.get("gate")
        before_gate = gate is not None and not self.session.cache.after_gate
        if before_gate:
            kwargs["gate"] = 1.0
        at, others = self.place.argument, self.session.others
        name = None  # of the hidden state, if it is given by name
        if at >= len(args):
            name = list(inspect.signature(type(module).forward).parameters)[at + 1]  # after self

        def compute(hidden_states: Tensor) -> Tensor:
            if name is None:
                given = (*args[:at], hidden_states, *args[at + 1 :])
                output = self.fn_ref.original_forward(*given, **kwargs)
            else:
                output = self.fn_ref.original_forward(*args, **{**kwargs, name: hidden_states})
            if problem := self.place.misfit(output):
                raise SkipditError(
                    f"{self.site.kind} {problem}",
                    place=self.session.where,
                    fix="say there with Place(..., output=) where the hidden state is",
                )
            if self.place.output is None:
                return output
            here = self.place.output
            others[self.session.branch, self.site] = (*output[:here], None, *output[here + 1 :])
            return output[here]

        output = self.session.run(self.site, compute, args[at] if name is None else kwargs[name])
        output = gate * output if before_gate else output
        if self.place.output is None:
            return output
        whole = others[self.session.branch, self.site]
        return (*whole[: self.place.output], output, *whole[self.place.output + 1 :])


@contextmanager
def attached(
    model: nn.Module, cache: Cache, timesteps: Sequence[int], *, guided: bool = False
) -> Iterator[Session]:
    """A session with the cache's hooks on the model; they and all state are gone afterwards.

    Args:
        guided: whether batches hold both halves of classifier-free guidance, [cond; null].
    Raises:
        UsageError: the method has no meaning on this model, or the model has a cache on it already.
    """
    session = Session(model, cache, timesteps, guided=guided)
    sites = site_modules(model)
    hooked = session.cache.module.hooked(session.cache.config, session.layout)
    if absent := [site for site in hooked if site not in sites]:
        raise UsageError(
            f"it acts on {absent[0]}, which {type(model).__name__} does not have",
            place=session.cache.name,
            fix=f"the kinds of its sites are {', '.join(model.SITES)}",
        )
    if any(_is_hooked(sites[site]) for site in hooked):
        raise UsageError(f"the model has a cache on it already; cannot add {session.cache}")
    own = {site: vars(sites[site]).get("forward") for site in hooked}  # somebody else's wrapper
    try:
        for site in hooked:
            registry = HookRegistry.check_if_exists_or_initialize(sites[site])
            registry.register_hook(SiteHook(session, site, place(model, site.kind)), _NAME)
        yield session
    finally:
        session.reset()
        for site in hooked:
            if _is_hooked(sites[site]):
                _detach(sites[site], own_forward=own[site] is not None)


def _is_hooked(module: nn.Module) -> bool:
    return hasattr(module, "_diffusers_hook") and _NAME in module._diffusers_hook.hooks


def _detach(module: nn.Module, *, own_forward: bool) -> None:
    """Remove the hook, and what it would leave behind on a module that had nothing of the kind."""
    module._diffusers_hook.remove_hook(_NAME, recurse=False)
    if not module._diffusers_hook.hooks:
        del module._diffusers_hook
        if not own_forward:
            del module.forward
