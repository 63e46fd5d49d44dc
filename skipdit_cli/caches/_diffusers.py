"""What methods share whose hooks are diffusers' own and stand on layers."""

from typing import Any

from skipdit_cli.sites import Site


def know_layers(hooks: dict[Site, Any]) -> dict[Site, Any]:
    """Tell hooks of layers how those are called: one hidden state in, one out.

    diffusers looks the class of a layer up in its `TransformerBlockRegistry`, which has none of
    these; and a layer of Latte, a pair of blocks, keeps the shape that its blocks do not.
    """
    from diffusers.hooks._helpers import TransformerBlockMetadata

    known = TransformerBlockMetadata(
        return_hidden_states_index=0, _cached_parameter_indices={"hidden_states": 0}
    )
    for hook in hooks.values():
        hook._metadata = known
    return hooks
