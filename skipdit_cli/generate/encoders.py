"""Text encoders: which class a folder's configuration means, and what its weights take."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints.drawn import empty, size
from skipdit_cli.errors import UsageError
from skipdit_cli.precision import dtype_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn


def kind(folder: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Configuration and class of the text encoder in a folder, and what the class is told more.

    Raises:
        UsageError: it is neither T5 nor BERT.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    known: dict[str, tuple[Any, dict[str, Any]]] = {
        "t5": (transformers.T5EncoderModel, {}),
        "mt5": (transformers.MT5EncoderModel, {}),
        "bert": (transformers.BertModel, {"add_pooling_layer": False}),
    }
    if config.model_type not in known:
        raise UsageError(
            f"a text encoder of type '{config.model_type}' cannot be used",
            place=str(folder),
            fix="take T5 or BERT",
        )
    return config, *known[config.model_type]


def blank(folder: Path) -> Any:
    """The text encoder of a folder's configuration, without memory for its weights."""
    config, chosen, options = kind(folder)
    return empty(lambda: chosen(config, **options))


def kept(model: Any, dtype: str) -> tuple[str, ...]:
    """Modules that stay float32: those of T5 overflow in float16."""
    return tuple(model._keep_in_fp32_modules or ()) if dtype == "float16" else ()


def sizes(model: "nn.Module", precisions: "Iterable[str]") -> dict[str, int]:
    """Bytes of the weights by precision."""
    kinds = {each: dtype_of(each) for each in precisions}
    return {each: size(model, dtype, kept(model, dtype)) for each, dtype in kinds.items()}
