"""Put a cache on a model and take it off again.

One hook class serves every method: it stands at each site the method names, knows the step and the
guidance branch, and counts what was computed. Built on diffusers' `HookRegistry`.

A method that diffusers has itself names diffusers' hooks in place of a `forward`. The session calls
them, they are not registered: so they see one tensor in and one out whatever the class of the site,
every call has a cache context (the guidance branch), and nothing of theirs stays on the model.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from diffusers.hooks import HookRegistry, ModelHook
from diffusers.hooks.hooks import CacheContext, HookFunctionReference, StateManager
from torch import Tensor, nn

from skipdit_cli.cache import Cache
from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.samplers._schedule import LINEAR, Betas, signal_power
from skipdit_cli.sites import (
    BOTH,
    CONDITIONAL,
    Call,
    Guided,
    Place,
    Site,
    gated,
    place_of,
    site_modules,
    where,
)

if TYPE_CHECKING:
    from skipdit_cli.models import Network

_NAME = "skipdit"
_REGISTRY = "_diffusers_hook"  # the attribute of a module where diffusers keeps its hooks
_NO_MODULE = nn.Module()  # what diffusers' hooks are told that they stand on


@dataclass(frozen=True)
class Context(CacheContext):
    """What diffusers' hooks know of a call: branch, step, its sigma as in flow matching, its input.

    Attributes:
        x: what the network is given, in the model's layout, of which the samples are the first
            dimension and the channels `channel_dim`.
        flow: whether that is (1 - sigma) x0 + sigma noise, as flow matching has it.
    """

    x: Tensor | None = None
    channel_dim: int = 1
    flow: bool = False


class Session:
    """The state of a cache on a model during one generation.

    Attributes:
        cache: the cache, resolved on the model's layout.
        timesteps: of every step.
        guided: whether classifier-free guidance is on.
        halves: per step, what of guidance is computed.
        step: index of the step that `begin` named; -1 before the first.
        computed: Counter of (step, site) for every hooked site that was really computed.
    """

    def __init__(
        self,
        cache: Cache,
        timesteps: Sequence[int],
        *,
        guided: bool = False,
        betas: Betas = LINEAR,
        sigmas: Sequence[float] | None = None,
        flow: bool = False,
    ) -> None:
        """
        Args:
            sigmas: of every step; else they follow from `betas`.
            flow: whether the model is one of flow matching.
        """
        self.cache, self.timesteps, self.guided = cache.at(timesteps), tuple(timesteps), guided
        self.halves = cache.halves(self.timesteps, guided=guided)
        self.announced = (
            None if cache.method.DYNAMIC else cache.reused(self.timesteps, guided=guided)
        )
        self.foreign: dict[Site, ModelHook] = cache.method.hooks(
            cache.settings, cache.layout, self.timesteps, guided=guided
        )
        self.sigmas, self._flow = [*(sigmas or _sigmas(betas, self.timesteps))], flow
        self.reset()

    @property
    def reused(self) -> list[frozenset[Site]]:
        """Per step, the sites that are reused; for a dynamic method, those that were, so far."""
        if self.announced is not None:
            return self.announced
        skipped, hooked = self.cache.skipped, self.cache.hooked
        computed = [
            {site for site in hooked if (step, site) in self.computed}
            for step in range(len(self.timesteps))
        ]
        return [
            skipped if step in self.begun and not some & skipped else frozenset()
            for step, some in enumerate(computed)
        ]

    def reset(self) -> None:
        """Forget everything stored; the next step is step 0."""
        self.step = -1
        self.branch = ""
        self.batch = BOTH if self.guided else CONDITIONAL
        self.stores: dict[str, dict[Any, Any]] = defaultdict(dict)
        self.others: dict[tuple[str, Site], Any] = {}  # what sites return beside hidden states
        self.gates: dict[tuple[str, Site], Tensor | None] = {}  # of their last computed step
        self.computed: Counter[tuple[int, Site]] = Counter()
        self.begun: set[int] = set()
        self.context = Context("")
        for manager in self._managers():
            manager.reset()

    def begin(self, step: int, *, branch: str = "") -> None:
        """Say which step comes next, and for which guidance branch the model is called."""
        if not 0 <= step < len(self.timesteps):
            raise UsageError(f"step {step} is outside the schedule of {len(self.timesteps)} steps")
        self.step, self.branch = step, branch
        self.batch = BOTH if self.guided else CONDITIONAL
        self.begun.add(step)
        at = self.timesteps[step], self.sigmas[step]
        self._tell(Context(branch, step, len(self.timesteps), *at, flow=self._flow))

    @contextmanager
    def again(self, number: int) -> Iterator[None]:
        """Keep what a site is called with for the second time in a call apart from the first."""
        own, context = self.branch, self.context
        self.branch = f"{own}.{number}"
        self._tell(Context(**{**vars(context), "name": self.branch}))
        yield
        self.branch = own
        self._tell(context)

    def look(self, x: Tensor, *, channel_dim: int) -> None:
        """Let diffusers' hooks see what the network is given.

        Args:
            x: [B, ...] in the model's layout.
        """
        self._tell(replace(self.context, x=x, channel_dim=channel_dim))

    def _tell(self, context: Context) -> None:
        self.context = context
        for manager in self._managers():
            manager.set_context(context)

    def guide(self, x: Tensor, compute: Callable[[str], Tensor], *, channel_dim: int) -> Tensor:
        """The network's output of both halves of guidance, as the method has it.

        Args:
            x: what is denoised, [B, ...].
            compute: the network on BOTH halves -> [2B, ...], or on one of them -> [B, ...].
        Returns:
            [2B, ...], [conditional; null], not yet combined.
        """

        def on(halves: str) -> Tensor:
            self.batch = halves
            return compute(halves)

        call = Guided(
            x=x,
            step=self.step,
            timesteps=self.timesteps,
            channel_dim=channel_dim,
            compute=on,
            store=self.stores[self.branch],
        )
        return self.cache.method.guide(self.cache.settings, call)

    def run(
        self,
        site: Site,
        compute: Callable[..., Any],
        hidden_states: Any,
        *,
        gate: Tensor | None = None,
    ) -> Any:
        """What a hooked site gives at this step, as the method has it: computed, or reused.

        Args:
            compute: the site itself, a function of the hidden states alone.
            gate: what comes after it, for the method to look at.
        """
        compute = partial(self._compute, site, compute)
        if site in self.foreign:
            return _call(self.foreign[site], compute, hidden_states)
        reused = frozenset() if self.announced is None else self.announced[self.step]
        call = Call(
            site=site,
            step=self.step,
            steps=len(self.timesteps),
            timestep=self.timesteps[self.step],
            reuse=site in reused,
            cached=bool(reused),
            halves=self.batch,
            store=self.stores[self.branch],
            gate=gate,
        )
        cache = self.cache
        return cache.method.forward(cache.settings, cache.layout, call, compute, hidden_states)

    def run_foreign(
        self,
        site: Site,
        module: nn.Module,
        compute: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """What diffusers' hook of a site makes of a call of its module, whatever it is given."""
        return _call(
            self.foreign[site],
            partial(self._compute, site, compute),
            *args,
            module=module,
            **kwargs,
        )

    def _compute(self, site: Site, compute: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.computed[self.step, site] += 1
        return compute(*args, **kwargs)

    def _managers(self) -> Iterator[StateManager]:
        """Where diffusers' hooks keep their state, which depends on the cache context."""
        for hook in self.foreign.values():
            yield from (value for value in vars(hook).values() if isinstance(value, StateManager))


def _sigmas(betas: Betas, timesteps: Sequence[int]) -> list[float]:
    """What a sample's noise is to noise and signal together, as in flow matching."""
    power = signal_power(betas)[list(timesteps)]
    noise = (1 - power) ** 0.5
    sigmas: list[float] = (noise / (noise + power**0.5)).tolist()
    return sigmas


def _call(
    hook: ModelHook,
    compute: Callable[..., Any],
    *args: Any,
    module: nn.Module = _NO_MODULE,
    **kwargs: Any,
) -> Any:
    """A diffusers hook at a site, as its registry would call it."""
    hook.fn_ref = HookFunctionReference()
    hook.fn_ref.original_forward = compute
    try:
        return hook.new_forward(module, *args, **kwargs)
    finally:
        hook.fn_ref = None  # else what entered the site stays in memory until the next step


class SiteHook(ModelHook):
    """Hands every call of one site to the session: the hidden state alone, in and out.

    What a site returns besides its hidden state is, where the site is reused, what it returned when
    it was last computed.

    A site whose output is gated, and added to a residual, gets either as a keyword. The method sees
    what comes before both; what it gives is gated by the gate of this step, or, if the method says
    `AFTER_GATE`, by that of the step that computed the site.
    """

    def __init__(self, session: Session, site: Site, place: Place, *, where: str) -> None:
        super().__init__()
        self.session, self.site, self.place, self.where = session, site, place, where

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        gate, residual = kwargs.pop("gate", None), kwargs.pop("residual", None)
        at, others, gates = self.place.argument, self.session.others, self.session.gates
        here = self.session.branch, self.site

        def compute(hidden_states: Tensor) -> Tensor:
            if at < len(args):
                given = (*args[:at], hidden_states, *args[at + 1 :])
                output = self.fn_ref.original_forward(*given, **kwargs)
            else:
                named = {**kwargs, self.place.name(module): hidden_states}
                output = self.fn_ref.original_forward(*args, **named)
            if problem := self.place.misfit(output):
                raise SkipditError(
                    f"{self.site.kind} {problem}",
                    place=self.where,
                    fix="say there with Place(..., output=) where the hidden state is",
                )
            gates[here] = gate
            others[here] = self.place.replaced(output, None)
            return self.place.leaving(output)

        hidden_states = self.place.entering(module, args, kwargs)
        output = self.session.run(self.site, compute, hidden_states, gate=gate)
        if self.session.cache.method.AFTER_GATE:
            gate = gates.get(here, gate)
        return self.place.replaced(others.get(here), gated(output, gate, residual))


@contextmanager
def attached(
    model: "Network",
    cache: Cache,
    timesteps: Sequence[int],
    *,
    guided: bool = False,
    betas: Betas = LINEAR,
) -> Iterator[Session]:
    """A session with the cache's hooks on the model; they and all state are gone afterwards.

    Args:
        cache: resolved on the model's layout.
        guided: whether classifier-free guidance is on.
        betas: the noise schedule that the model was trained with.
    Raises:
        UsageError: the cache is of a model of another layout, or the model has one on it already.
        SkipditError: the method's file does not do what its contract says.
    """
    if cache.layout != model.layout():
        raise UsageError(f"{cache} was resolved for a {cache.layout.family} of another structure")
    session = Session(cache, timesteps, guided=guided, betas=betas)
    sites, hooked = site_modules(model), cache.hooked
    if absent := [site for site in hooked if site not in sites]:
        raise SkipditError(
            f"there is no {absent[0].kind}, and {cache.name} acts on it",
            place=where(model),
            fix="let `layout` name the kinds that are there",
        )

    def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        session.look(x, channel_dim=model.CHANNEL_DIM)

    sees = cache.method.SEES_INPUT
    handle = model.register_forward_pre_hook(look, with_kwargs=True) if sees else None
    hooks: list[tuple[nn.Module, ModelHook]] = [
        (sites[site], SiteHook(session, site, place_of(model, site.kind), where=where(model)))
        for site in hooked
    ]
    try:
        with standing(hooks, cache):
            yield session
    finally:
        session.reset()
        if handle:
            handle.remove()


@contextmanager
def standing(hooks: Sequence[tuple[nn.Module, ModelHook]], cache: Cache) -> Iterator[None]:
    """Hooks on modules; they are gone afterwards.

    Args:
        cache: that they are of.
    Raises:
        UsageError: one of the modules has one already.
    """
    if any(_is_hooked(module) for module, _ in hooks):
        raise UsageError(f"the model already has a cache, so {cache} cannot be put on it")
    own = [vars(module).get("forward") for module, _ in hooks]  # somebody else's wrapper
    try:
        for module, hook in hooks:
            HookRegistry.check_if_exists_or_initialize(module).register_hook(hook, _NAME)
        yield
    finally:
        for (module, _), forward in zip(hooks, own, strict=True):
            if _is_hooked(module):
                _detach(module, own_forward=forward is not None)


def _is_hooked(module: nn.Module) -> bool:
    registry = vars(module).get(_REGISTRY)
    return registry is not None and _NAME in registry.hooks


def _detach(module: nn.Module, *, own_forward: bool) -> None:
    """Remove the hook, and what it would leave behind on a module that had nothing of the kind."""
    registry = vars(module)[_REGISTRY]
    registry.remove_hook(_NAME, recurse=False)
    if not registry.hooks:
        delattr(module, _REGISTRY)
        if not own_forward:
            del module.forward
