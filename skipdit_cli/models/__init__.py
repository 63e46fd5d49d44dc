"""One file per model family; what several of them share is in the files that start with `_`.

`Family` is what a file holds, `Denoiser` what its class does. A family knows neither caches nor
timesteps.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from skipdit_cli.checkpoints.card import Card
from skipdit_cli.contract import Registered
from skipdit_cli.sites import Layout, Sited, Sites

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

Encoded = Mapping[str, "Tensor"]  # what the text encoders give for one prompt, see `condition`
Conditions = dict[str, "Tensor"]  # arguments of `forward` by name
ATTENTION_MASK = "encoder_attention_mask"  # diffusers' name; `forward` can do without


class Family(Registered, Protocol):
    """What a file in this folder holds.

    Attributes:
        VERSION: raised whenever a change gives other samples (CONTRIBUTING.md).
        MODEL: the class of the network, a `Denoiser`. It is a model of diffusers
            (`from_pretrained`, `save_pretrained`), its constructor takes keyword arguments alone,
            all of which have defaults and stand in `model.config`. Where it has the argument
            `skip: bool` it is built with and without long skip branches, whose parameters have
            ".skip." in their names; without it the skips, if any, are native.
        VARIANTS: name -> constructor arguments: the published size, the embedded one.
        CHECKPOINTS: of a family of another distribution: its checkpoints; those of the families
            here are in a catalogue.
    """

    MODEL: "Callable[..., Network]"
    VARIANTS: Mapping[str, Mapping[str, Any]]
    CHECKPOINTS: tuple[Card, ...] = ()
    VERSION: int = 1

    @staticmethod
    def rules(module: ModuleType) -> str:
        """What MODEL lacks of a Denoiser, or nothing."""
        parts = ("CHANNEL_DIM", "GUIDED_CHANNELS", "SITES", "layout", "inputs", "forward")
        lacks = [part for part in parts if not hasattr(module.MODEL, part)]
        return f"`MODEL` has no {' and no '.join(lacks)}" if lacks else ""

    @abstractmethod
    def convert(
        self, state: "Mapping[str, Tensor]", config: Mapping[str, Any]
    ) -> "dict[str, Tensor]":
        """The official state dict -> that of MODEL.

        Args:
            state: official keys; those of skip branches only where the model has them.
            config: the constructor arguments.
        """

    def official_calls(self, model: "Network") -> "dict[nn.Module, int]":
        """Modules that the official code runs more often than MODEL does, and how often.

        The MACs of the paper count them as the official code runs them.
        """
        return {}

    def tokens(self, arguments: Mapping[str, Any]) -> tuple[int, ...]:
        """How many tokens each text encoder gives, in the order of the checkpoint's components.

        Args:
            arguments: of the constructor.
        """
        return ()

    def clean(self, prompt: str) -> str:
        """A prompt as the tokenizers get it."""
        return prompt

    def condition(self, encoded: Encoded, null: Encoded) -> tuple[Conditions, Conditions]:
        """A prompt, encoded -> arguments of `forward` for the two halves of guidance, by name.

        Args:
            encoded: of the prompt: "states" [L, C] and "mask" [L] int64, 1 for tokens and 0 for
                padding, of the first text encoder; "states_2" and "mask_2" of the second.
            null: the same of the negative prompt, which is empty unless told otherwise.
        Returns:
            The arguments for the prompt and for the negative one, without batch dimension: those of
            several prompts are padded with zeros at the end to the longest, and stacked. An
            `encoder_attention_mask` that then is all ones is not handed on.
        """
        first, second = (
            {"encoder_hidden_states": part["states"], "encoder_attention_mask": part["mask"]}
            for part in (encoded, null)
        )
        return first, second


class Denoiser(Sited, Protocol):
    """What a family's class does, besides being a `torch.nn.Module`.

    It is built without memory for its weights (on the meta device) and gets them afterwards. What
    it computes in its constructor is a buffer (`register_buffer`), never a plain attribute: buffers
    that are not in the state dict (`persistent=False`) are computed again then.

    Attributes:
        CHANNEL_DIM: which dimension of input and output holds the channels.
        GUIDED_CHANNELS: how many leading output channels classifier-free guidance acts on.
        SITES: kind of site -> dotted path of its module, with {i} for the layer; or a `Place`
            where that module returns a tuple or does not take the hidden state first. A module
            whose output is gated takes the gate as keyword `gate`, and one that adds its output
            to the residual that as keyword `residual`; a cache leaves them out and keeps what the
            module gives then.
        config: the constructor arguments, and `learn_sigma: bool`, whether the second half of the
            output's channels is the variance; true where it is left out.
    """

    CHANNEL_DIM: int
    GUIDED_CHANNELS: int
    SITES: Sites

    @property
    def config(self) -> Any: ...

    @abstractmethod
    def layout(self) -> Layout:
        """What a cache may know: family, number of layers, kinds of sites in them, skips."""

    @abstractmethod
    def inputs(self, batch_size: int, *, device: str = "cpu") -> "dict[str, Tensor]":
        """Arguments of `forward` by name, for counting and timing: shapes and dtypes matter.

        "hidden_states" and "timestep" are the first two, the conditions follow.
        """

    @abstractmethod
    def forward(
        self, hidden_states: "Tensor", timestep: "Tensor", /, *conditions: Any, **keywords: Any
    ) -> Any:
        """One call of the network, `(sample,)` with the keyword `return_dict=False`.

        The first two arguments are given by position, conditions by the names that diffusers has
        for them.

        Args:
            hidden_states: [B, ...], in the dtype of the weights.
            timestep: [B], 0 to 999.
            conditions: `class_labels` [B] int64, where the number of classes is the null class; or
                what the family's `condition` gives, stacked to [B, ...]; or none.
        Returns:
            sample: like hidden_states, with twice as many channels where the variance is predicted.
        """


if TYPE_CHECKING:

    class Network(nn.Module, Denoiser):
        """A Denoiser as what it is besides, a module and a model of diffusers, for annotations."""

        def save_config(self, save_directory: Path) -> None: ...
        def save_pretrained(self, save_directory: Path) -> None: ...
