"""One file per model family; what families share word for word is in `_layers.py`.

A family's file holds one class, a diffusers model (`from_pretrained`, `save_pretrained`), with

    VARIANTS                  name -> constructor arguments: the published size, the embedded one
    MODEL                     the class itself
    CHANNEL_DIM               which dimension of input and output holds the channels
    GUIDED_CHANNELS           how many leading output channels classifier-free guidance acts on
    layout() -> Layout        what a cache may know
    sites() -> {Site: module} the modules behind the sites
    inputs(batch_size)        arguments of `forward` of the right shapes, for counting and timing
    convert(state, config)    official state dict -> ours

and, where they apply,

    official_calls()          modules that the official code runs more often, and how often
    tokens(arguments)         how many tokens each text encoder gives
    clean(prompt)             a prompt as the tokenizers get it
    condition(encoded, null)  encoder outputs -> conditions of both halves of guidance

It knows neither caches nor timesteps.
"""

from typing import Protocol

from skipdit_cli.contract import Registered


class Family(Registered, Protocol):
    """The contract, as far as it is written down in code."""
