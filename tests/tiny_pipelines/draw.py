"""Random weights."""

from typing import Any

import torch


def drawn(kind: Any, *config: Any, **arguments: Any) -> Any:
    """A model of this class, its weights from seed 0; what its class starts with zeros is drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(*config, **arguments).eval()
        for parameter in model.requires_grad_(False).parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return model
