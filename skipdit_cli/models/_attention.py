"""Attention and feed-forward of text-to-video Latte: diffusers' modules, as a cache can see them.

Their parameters and what they compute are those of diffusers' `Attention` and `FeedForward`. What
is multiplied by a gate and added to a residual gets both as keywords, so that a cache may keep it
before either: `forward` takes other arguments than diffusers' own. The keys and values of the
caption, the same for every frame, are computed once per clip; the official code repeats the caption
for each.
"""

import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor

from skipdit_cli.sites import gated


class SelfAttention(Attention):
    """Gated self-attention among the tokens of each sequence.

    Shapes: [B, sequences, T, D], gate [B, 1, 1, D], residual like the first -> like the first
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__(hidden_size, heads=num_heads, dim_head=hidden_size // num_heads, bias=True)

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, *, gate: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        sequences = hidden_states.flatten(0, 1)
        x = _attend(self, sequences, sequences)
        return gated(x.view(hidden_states.shape), gate, residual)


class CrossAttention(Attention):
    """Attention of all frames of a clip to its one caption."""

    def __init__(self, hidden_size: int, num_heads: int, caption_size: int) -> None:
        super().__init__(
            hidden_size,
            caption_size,
            heads=num_heads,
            dim_head=hidden_size // num_heads,
            bias=True,
        )

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, caption: Tensor, caption_bias: Tensor | None = None
    ) -> Tensor:
        """[B, F, T, D], caption [B, L, C], caption_bias [B, 1, 1, L] -> like the first"""
        x = _attend(self, hidden_states.flatten(1, 2), caption, caption_bias)
        return x.view(hidden_states.shape)


class Mlp(FeedForward):
    """Gated feed-forward. [B, sequences, T, D], gate and residual as in SelfAttention -> same"""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, activation_fn="gelu-approximate")

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, *, gate: Tensor | None = None, residual: Tensor | None = None
    ) -> Tensor:
        return gated(super().forward(hidden_states), gate, residual)


def _attend(module: Attention, x: Tensor, context: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [N, T, D], context [N, L, C], bias [N, 1, 1, L], added to scores -> like x"""

    def heads(states: Tensor) -> Tensor:  # [N, heads, tokens, D / heads]
        return states.unflatten(-1, (module.heads, -1)).transpose(1, 2)

    query, key, value = (
        heads(project(states))
        for project, states in ((module.to_q, x), (module.to_k, context), (module.to_v, context))
    )
    x = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return module.to_out[0](x.transpose(1, 2).flatten(2))
