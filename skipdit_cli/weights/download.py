"""Fetch a released checkpoint and convert it to safetensors + config.json (diffusers layout)."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from skipdit_cli import weights
from skipdit_cli.errors import MissingAssetError, SkipditError, StoreError, UsageError
from skipdit_cli.weights.catalog import Card
from skipdit_cli.weights.official import check_keys, read_state, rename

if TYPE_CHECKING:
    from torch import Tensor

RESTRICTED = ("CC-BY-NC-4.0",)  # licences that have to be accepted


def download(card: Card, *, accept_license: bool = False) -> Path:
    """Fetch a checkpoint, resuming what an earlier try left, and convert it.

    Returns:
        The converted weights file; at once if it is there already.
    Raises:
        UsageError: the licence was not accepted, or the file is not this model's checkpoint.
        MissingAssetError: the network or the source did not give the file.
    """
    if known := weights.locate(card.name):
        return known
    if card.licence in RESTRICTED and not accept_license:
        raise UsageError(
            f"{card.name} is licensed {card.licence}, for non-commercial use",
            place="skipdit download",
            fix="add --accept-license if you accept that",
        )
    folder = weights.home() / "downloads"
    fetched = _from_hub(card, folder) if "://" not in card.source else _from_url(card, folder)
    return convert(card, fetched)


def convert(card: Card, source: Path) -> Path:
    """Turn an official file into `weights/NAME/` with safetensors and config.json.

    Raises:
        UsageError: the file is truncated, unsafe, or another model's.
        StoreError: the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save_file

    model = weights.build(card)
    state: dict[str, Tensor] = rename(card.family, dict(model.config), read_state(source))
    check_keys(model, state, place=str(source))
    target = weights.home() / "weights" / card.name / weights.WEIGHTS_FILE
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        model.save_config(target.parent)
        save_file({key: value.contiguous() for key, value in state.items()}, temporary)
        os.replace(temporary, target)
    except (OSError, SkipditError) as error:
        raise StoreError(
            f"cannot write ({error})", place=str(target.parent), fix="free some space and try again"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _from_hub(card: Card, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    for name in card.files:
        try:
            return Path(hf_hub_download(card.source, name, local_dir=folder / card.name))
        except RemoteEntryNotFoundError:
            continue  # the sources disagree about this file's name: try the next
        except Exception as error:
            raise _unreachable(card, f"{card.source}/{name}", error) from None
    raise MissingAssetError(
        f"{card.source} has no {' or '.join(card.files)}",
        place=f"skipdit download {card.name}",
        fix="look at the repository, fetch the file by hand, and give it with --from",
    )


def _from_url(card: Card, folder: Path) -> Path:
    from torch.hub import download_url_to_file

    target = folder / card.name / card.files[0]
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        download_url_to_file(card.source + card.files[0], str(target))
    except Exception as error:
        raise _unreachable(card, card.source + card.files[0], error) from None
    return target


def _unreachable(card: Card, address: str, error: Exception) -> MissingAssetError:
    reason = (str(error) or type(error).__name__).splitlines()[0][:160]
    return MissingAssetError(
        f"cannot fetch {address} ({reason})",
        place=f"skipdit download {card.name}",
        fix="check the network, or fetch the file elsewhere and give it with --from FILE",
    )
