"""Prompts -> what a text denoiser is conditioned on.

Every prompt is encoded once and kept on disk under the results folder, where all rows of a sweep
and all worker processes find it. The text encoders are in memory only meanwhile, never while a
sample is denoised.

Prompts are encoded in batches that always have the same shape, filled up where there are fewer: the
bits of an embedding are then those of its own prompt, whatever stands beside it and wherever in the
batch it stands, since every row of a product is summed in the same order.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.checkpoints import local, networks
from skipdit_cli.checkpoints.drawn import fill
from skipdit_cli.checkpoints.inventory import remedy
from skipdit_cli.errors import (
    MissingAssetError,
    SkipditError,
    lacks_memory,
    shortened,
    warn,
)
from skipdit_cli.generate import encoders, memory
from skipdit_cli.models import ATTENTION_MASK, Conditions
from skipdit_cli.precision import dtype_of, products
from skipdit_cli.run import DRAWING, TEXT
from skipdit_cli.storage import kept
from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from skipdit_cli.checkpoints.card import Card

EMBEDDING = kept.Kind(
    "embedding of a prompt", 2, fix="run the same command again: it is made again"
)
BATCH = 8  # prompts that are encoded together
TOLD = 10  # prompts that are named where more are cut


def absent(
    card: "Card",
    prompts: Sequence[str],
    *,
    root: Path,
    negative: str | None = None,
    precision: str = "float32",
) -> dict[str, list[str]]:
    """Which texts of the prompts are not on disk, by the encoder's suffix; as `encode`.

    Damaged ones are not, and each is told of.
    """
    folder, wanted = _folder(root, card, precision), _texts(card, prompts, negative)
    return {
        suffix: [text for text in wanted if _kept(_path(folder, text, suffix)) is None]
        for suffix in _suffixes(card)
    }


def paths(
    card: "Card",
    prompts: Sequence[str],
    *,
    root: Path,
    negative: str | None = None,
    precision: str = "float32",
) -> list[Path]:
    """The files of the prompts' embeddings, and of the negative one's; as `encode`."""
    folder, wanted = _folder(root, card, precision), _texts(card, prompts, negative)
    return [_path(folder, text, suffix) for text in wanted for suffix in _suffixes(card)]


def encode(
    card: "Card",
    prompts: Sequence[str],
    *,
    root: Path,
    negative: str | None = None,
    device: str = "cpu",
    precision: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode those of the prompts, and the negative one, that are not on disk yet.

    They are written as soon as an encoder has read their batch, so that an interrupted call goes on
    there.

    Args:
        root: the results folder.
        negative: the prompt of the null half of guidance; None is the checkpoint's own.
        precision: of the encoders and of what they give.
        progress: called with (done, total) after each prompt of each encoder.
    Raises:
        MissingAssetError: a text encoder or tokenizer is not here.
    """
    folder = _folder(root, card, precision)
    left = absent(card, prompts, negative=negative, root=root, precision=precision)
    done, total = 0, sum(map(len, left.values()))
    for length, (suffix, some) in zip(_tokens(card), left.items(), strict=True):
        if not some:
            continue
        run = _encoder(card, suffix, length=length, device=device, precision=precision)
        for first in range(0, len(some), BATCH):
            batch = some[first : first + BATCH]
            for text, (states, mask) in zip(batch, run(batch), strict=True):
                content = {f"states{suffix}": states, f"mask{suffix}": mask}
                _save(_path(folder, text, suffix), content)
                done += 1
                if progress:
                    progress(done, total)
        del run  # before the next encoder comes


def warn_of_cuts(card: "Card", prompts: Sequence[str], *, negative: str | None = None) -> None:
    """Warn of each prompt of which an encoder does not get all, or nothing.

    Embeddings that are on disk are no matter: the tokens are counted again, which is quick.

    Args:
        negative: as in `encode`.
    """
    texts = _texts(card, prompts, negative)
    cuts: dict[str, list[str]] = {}
    if texts.get("", "").strip():
        cuts[""] = ["nothing is left of it when it is cleaned as officially"]
    for length, suffix in zip(_tokens(card), _suffixes(card), strict=True):
        if f"tokenizer{suffix}" not in card.components:  # a stand-in counts other tokens
            continue
        tokenizer = _tokenizer(card, suffix)
        for text, ids in zip(texts, tokenizer([*texts], verbose=False)["input_ids"], strict=True):
            if (cut := len(ids) - length) > 0:
                problem = f"text_encoder{suffix} reads {length} tokens of it and {cut} are cut"
                cuts.setdefault(text, []).append(problem)
    for text in [*cuts][:TOLD]:
        place = f"{card.name} prompt '{shortened(texts[text])}'"
        warn(", ".join(cuts[text]), place=place, fix="write it shorter, or in other words")
    if len(cuts) > TOLD:
        warn(f"{len(cuts) - TOLD} more prompts are cut", place=card.name)


def conditions(
    card: "Card",
    prompts: Sequence[str],
    *,
    root: Path,
    negative: str | None = None,
    device: str = "cpu",
    precision: str = "float32",
) -> tuple[Conditions, Conditions]:
    """Conditions of a batch by diffusers' names, and those of its null half; `encode` comes first.

    Args:
        negative, precision: as in `encode`.
    Returns:
        Two dictionaries of [B, ...], padded with zeros (and masks of 0) to the longest prompt; an
        attention mask that is all ones is left out of both.
    """
    folder = _folder(root, card, precision)
    family = registry.load("models", card.family)
    suffixes = _suffixes(card)
    null = _read(folder, family.clean(_negative(card, negative)), suffixes)
    pairs = [
        family.condition(_read(folder, family.clean(prompt), suffixes), null) for prompt in prompts
    ]
    halves = [_collate([pair[i] for pair in pairs]) for i in (0, 1)]
    if all(half[ATTENTION_MASK].all() for half in halves if ATTENTION_MASK in half):
        for half in halves:
            half.pop(ATTENTION_MASK, None)
    conditional, unconditional = (
        {key: value.to(device) for key, value in half.items()} for half in halves
    )
    return conditional, unconditional


def _negative(card: "Card", given: str | None) -> str:
    return card.negative_prompt if given is None else given


def _texts(card: "Card", prompts: Sequence[str], negative: str | None) -> dict[str, str]:
    """What the tokenizers get -> the prompt that it comes from; the negative one is the first."""
    clean = registry.load("models", card.family).clean
    texts: dict[str, str] = {}
    for prompt in [_negative(card, negative), *prompts]:
        text = clean(prompt)
        texts[text] = texts.get(text) or prompt
    return texts


def _suffixes(card: "Card") -> list[str]:
    """Which encoders a model has: "" and perhaps "_2"."""
    return [
        key.removeprefix("text_encoder") for key in card.components if key.startswith("text_enc")
    ]


def _tokens(card: "Card") -> tuple[int, ...]:
    """How many tokens each encoder gives."""
    tokens = registry.load("models", card.family).tokens(networks.arguments(card))
    if len(tokens) != len(_suffixes(card)):
        raise SkipditError(
            f"{len(tokens)} lengths for the {len(_suffixes(card))} text encoders of {card.name}",
            place=f"models {card.family}: tokens",
            fix="give one number for each",
        )
    return tokens


def _encoder(
    card: "Card", suffix: str, *, length: int, device: str, precision: str
) -> "Callable[[Sequence[str]], list[tuple[Tensor, Tensor]]]":
    """Up to BATCH prompts -> (states [L, C], mask [L] int64) of each, on the CPU."""
    import torch

    tokenizer = _tokenizer(card, suffix)
    model = _load_model(card, f"text_encoder{suffix}", device=device, precision=precision)

    def run(prompts: Sequence[str]) -> "list[tuple[Tensor, Tensor]]":
        whole = [*prompts, *[prompts[-1]] * (BATCH - len(prompts))]
        tokens = tokenizer(
            whole, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        ids, mask = tokens["input_ids"].to(device), tokens["attention_mask"].to(device)
        with torch.no_grad(), products(precision):
            states = model(input_ids=ids, attention_mask=mask)[0]
        return list(zip(states.cpu(), mask.cpu(), strict=True))[: len(prompts)]

    return run


def _tokenizer(card: "Card", suffix: str) -> Any:
    """The tokenizer of an encoder; a dry run that has none takes bytes for tokens."""
    if (key := f"tokenizer{suffix}") in card.components:
        return _load_tokenizer(local.component(card, key))
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer()


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    def load() -> Any:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if not any((folder / name).is_file() for name in tokenizer.vocab_files_names.values()):
            raise ValueError(
                "it has no vocabulary"
            )  # transformers makes one up, where all is unknown
        return tokenizer

    return _quietly(load, folder)


def _load_model(card: "Card", key: str, *, device: str, precision: str) -> Any:
    """A text encoder with its weights, read or drawn.

    Raises:
        UsageError: the device has no room for it.
    """
    import torch

    folder, dtype = local.component(card, key), dtype_of(precision)

    def load() -> Any:
        _, chosen, options = encoders.kind(folder)
        kind = getattr(torch, dtype)
        model, loading_info = chosen.from_pretrained(
            folder, dtype=kind, local_files_only=True, output_loading_info=True, **options
        )
        if absent := loading_info["missing_keys"]:  # transformers draws them at random
            raise ValueError(f"no weights of {', '.join(sorted(absent))}")
        return model.eval()

    model = _quietly(lambda: encoders.blank(folder), folder)
    sizes = encoders.sizes(model, card.precisions)
    memory.require_room(f"the {key} of {card.name}", sizes, precision=precision, device=device)
    if card.random:
        return fill(model, device=device, dtype=dtype, kept=encoders.kept(model, dtype))
    return _quietly(load, folder).to(device)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and reports of transformers and diffusers."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    both = [(logging, logging.get_verbosity()) for logging in (of_transformers, of_diffusers)]
    for logging, _ in both:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging, level in both:
            logging.set_verbosity(level)
            logging.enable_progress_bar()


def _quietly(load: Callable[[], Any], folder: Path) -> Any:
    """Load from a folder; damage is a MissingAssetError."""
    from safetensors import SafetensorError

    try:
        with quiet():
            return load()
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if lacks_memory(error):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        raise MissingAssetError(
            f"cannot be loaded ({reason})", place=str(folder), fix=remedy(folder)
        ) from None


def _folder(root: Path, card: "Card", precision: str) -> Path:
    """Where embeddings are: they depend on encoders, number of tokens and precision alone.

    Those of random weights lie by themselves.

    The name of a file in it is of the text that the tokenizers get, the prompt being cleaned.
    """
    parts = [
        local.component_fingerprint(card.components[key]) for key in card.components if key != "vae"
    ]
    drawn = [f"random {DRAWING}"] if card.random else []
    text = ":".join([str(TEXT), card.family, precision, *map(str, _tokens(card)), *parts, *drawn])
    return root / "embeddings" / hashlib.sha256(text.encode()).hexdigest()[:16]


def _path(folder: Path, prompt: str, suffix: str) -> Path:
    return folder / f"{hashlib.sha256(prompt.encode()).hexdigest()[:32]}{suffix}.safetensors"


def _identity(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _save(path: Path, content: Conditions) -> None:
    from safetensors.torch import save

    data = save({key: value.contiguous() for key, value in content.items()})
    write_whole(path, kept.sealed_arrays(data, EMBEDDING, of=_identity(path)))


def _kept(path: Path) -> Conditions | None:
    with kept.damaged_is_absent():
        return kept.read_tensors(path, EMBEDDING, of=_identity(path))
    return None


def _read(folder: Path, prompt: str, suffixes: Sequence[str]) -> Conditions:
    content: Conditions = {}
    for suffix in suffixes:
        path = _path(folder, prompt, suffix)
        embedding = kept.read_tensors(path, EMBEDDING, of=_identity(path))
        if embedding is None:
            raise MissingAssetError(
                "the embedding of a prompt is gone", place=str(path), fix=EMBEDDING.fix
            )
        content |= embedding
    return content


def _collate(items: Sequence[Conditions]) -> Conditions:
    """Stack tensors [L, ...] into [B, longest L, ...], with zeros where one is shorter."""
    from torch.nn.utils.rnn import pad_sequence

    return {key: pad_sequence([item[key] for item in items], batch_first=True) for key in items[0]}
