"""The parts of a pipeline, read but for their weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skipdit_cli.checkpoints import drawn, pipeline
from skipdit_cli.errors import SkipditError, first_line

CPU = torch.device("cpu")


def empty(folder: Path, name: str) -> nn.Module:
    """A part of a pipeline of a class of diffusers, on the meta device."""
    kind = pipeline.class_of(*pipeline.parts(folder)[name])
    with torch.device("meta"):
        module: nn.Module = kind.from_config(pipeline.config(folder, name)).eval()
    return module


def blank(folder: Path, name: str) -> nn.Module | None:
    """A part without memory for its parameters, but with its buffers; None if it is no network."""
    import transformers

    kind = pipeline.class_of(*pipeline.parts(folder)[name])
    if not issubclass(kind, nn.Module):
        return None
    if not issubclass(kind, transformers.PreTrainedModel):
        return drawn.empty(lambda: kind.from_config(pipeline.config(folder, name)))
    config = kind.config_class.from_pretrained(folder / name)
    return drawn.empty(lambda: kind(config))


def options(folder: Path) -> dict[str, Any]:
    """What a pipeline is built with beside its parts: those that are absent, and settings."""
    said = pipeline.index(folder).items()
    there = pipeline.parts(folder)
    absent = {name: None for name, part in said if part == [None, None]}
    settings = {
        name: value
        for name, value in said
        if not name.startswith("_") and name not in there and name not in absent
    }
    return {**absent, **settings}


def read(folder: Path, name: str) -> Any:
    """A part as its files have it.

    Raises:
        SkipditError: they are absent or damaged, or of a class that is not installed.
    """
    library, class_name = pipeline.parts(folder)[name]
    try:
        return _part(folder, name, library, class_name)
    except SkipditError:
        raise
    except Exception as error:  # libraries and tokenizers raise what they like
        raise SkipditError(
            f"cannot be read as a {class_name}: {type(error).__name__}: {first_line(error)}",
            place=str(folder / name),
            fix=pipeline.AGAIN,
        ) from error


def _part(folder: Path, name: str, library: str, class_name: str) -> Any:
    import transformers

    kind = pipeline.class_of(library, class_name)
    if issubclass(kind, transformers.PreTrainedModel):
        return StandIn(kind.config_class.from_pretrained(folder / name), class_name)
    if not issubclass(kind, nn.Module):
        return kind.from_pretrained(folder / name)
    module = empty(folder, name)
    if name not in pipeline.denoisers(folder):
        _with_buffers(module, lambda: kind.from_config(pipeline.config(folder, name)))
    return module


def _with_buffers(module: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Give a module its buffers, which pipelines read: means and deviations of latents."""
    if any(True for _ in module.buffers()):
        there = drawn.empty(build)
        for name, part in module.named_modules():
            part._buffers.update(there.get_submodule(name)._buffers)


class StandIn(nn.Module):
    """A text encoder that gives zeros, in the shapes of the real one."""

    dtype, device = torch.float32, CPU

    def __init__(self, config: Any, class_name: str) -> None:
        super().__init__()
        self.config, self.projected = config, class_name.endswith("WithProjection")

    def forward(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        from transformers.utils import ModelOutput

        text = getattr(self.config, "text_config", self.config)
        width = getattr(text, "hidden_size", None) or text.d_model
        layers = getattr(text, "num_hidden_layers", None) or text.num_layers
        states = torch.zeros(*input_ids.shape, width)
        pooled = torch.zeros(len(input_ids), getattr(text, "projection_dim", None) or width)
        given = {"last_hidden_state": states, "pooler_output": torch.zeros(len(input_ids), width)}
        if self.projected:
            given = {"text_embeds": pooled, "last_hidden_state": states}
        return ModelOutput(**given, hidden_states=(states,) * (layers + 1))
