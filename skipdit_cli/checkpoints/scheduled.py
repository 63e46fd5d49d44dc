"""Be told what a scheduler of a pipeline does."""

import functools
from collections.abc import Callable
from typing import Any


def instead(scheduler: Any, **methods: Callable[..., Any]) -> Callable[[], None]:
    """Let functions be called in place of methods of a scheduler, and not of its copies.

    A pipeline that makes more than images gives each of them a copy of its scheduler.

    Args:
        methods: by their names; each is given the method itself, and then what that takes.
    Returns:
        What ends it.
    """
    own = type(scheduler)

    def method(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        replaced = getattr(own, name)

        @functools.wraps(replaced)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            bound = functools.partial(replaced, self)
            return function(bound, *args, **kwargs) if self is scheduler else bound(*args, **kwargs)

        return call

    changed = {name: method(name, function) for name, function in methods.items()}
    scheduler.__class__ = type(own.__name__, (own,), changed)

    def end() -> None:
        scheduler.__class__ = own

    return end
