"""Attention and feed-forward of text-to-video Latte: diffusers' modules, as a cache can see them.

Their parameters and what they compute are those of diffusers' `Attention` and `FeedForward`. What
is multiplied by a gate gets the gate as a keyword, so that a cache may keep it before or after its
gate: `forward` takes other arguments than diffusers' own. The keys and values of the caption, the
same for every frame, are computed once per clip; the official code repeats the caption for each.
"""

import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor


class SelfAttention(Attention):
    """Gated self-attention. [N, T, D], gate [N, 1, D] -> like the first"""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__(hidden_size, heads=num_heads, dim_head=hidden_size // num_heads, bias=True)

    def forward(  # type: ignore[override]
        self, hidden_states: Tensor, *, gate: Tensor
    ) -> Tensor:
        return gate * super().forward(hidden_states)


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
        """[B * F, T, D], caption [B, L, C], caption_bias [B, 1, L] -> like the first"""

        def heads(states: Tensor) -> Tensor:  # [B, heads, tokens, D / heads]
            width = states.shape[-1] // self.heads
            return states.reshape(len(caption), -1, self.heads, width).transpose(1, 2)

        query = heads(self.to_q(hidden_states))  # of all frames: tokens is F * T
        key, value = heads(self.to_k(caption)), heads(self.to_v(caption))
        bias = None if caption_bias is None else caption_bias[:, None].to(query.dtype)
        x = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        x = x.transpose(1, 2).reshape(*hidden_states.shape[:2], -1)
        for module in self.to_out:
            x = module(x)
        return x


class Mlp(FeedForward):
    """Gated feed-forward. [N, T, D], gate [N, 1, D] -> like the first"""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, activation_fn="gelu-approximate")

    def forward(self, hidden_states: Tensor, *, gate: Tensor) -> Tensor:
        return gate * super().forward(hidden_states)
