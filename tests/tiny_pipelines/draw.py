"""Random weights."""

from typing import Any

import torch


def drawn(kind: Any, *config: Any, **arguments: Any) -> Any:
    """A model of this class with the weights that it draws from seed 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*config, **arguments).eval()
