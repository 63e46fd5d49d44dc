"""Train a denoiser, in two stages if it has skip branches (arXiv 2411.17616, section 3.2).

A vanilla model is trained from scratch. A skip model starts from a trained vanilla model: stage 1
trains the skip branches alone, stage 2 trains everything. The moving average of the weights is what
is kept. A killed run continues at its last checkpoint, with the data it would have seen.
"""

import copy
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from skipdit_cli.checkpoints.card import Card
from skipdit_cli.checkpoints.catalog import card
from skipdit_cli.checkpoints.networks import build, load
from skipdit_cli.embedded.captions import LISTS
from skipdit_cli.errors import UsageError
from skipdit_cli.generate import text
from skipdit_cli.storage.disk import on_disk, read_json, remove_leftovers, replacing, write_whole
from skipdit_cli.train.data import DATA
from skipdit_cli.train.loss import Diffusion, hybrid_loss, velocity_loss
from skipdit_cli.train.settings import TrainingSettings

if TYPE_CHECKING:
    from skipdit_cli.models import Network

CURVE_EVERY = 100  # steps behind one point of the loss curve
Condition = Callable[[Tensor, Tensor], dict[str, Tensor]]
CHECKPOINT_EVERY = 2 * CURVE_EVERY  # a multiple: what is not yet a point is not kept


def train(
    settings: TrainingSettings,
    folder: Path,
    *,
    device: str = "cpu",
    command: str = "",
    progress: Callable[[int, float], None] | None = None,
) -> "Network":
    """Train and write `config.json`, fp16 weights and `training.json` into a folder.

    Args:
        command: the command line, kept in the record.
        progress: called with (step, loss) after every step of a curve point.
    Returns:
        The moving average of the model, float32.
    """
    chosen = card(settings.model)
    torch.manual_seed(settings.seed)
    model = build(chosen, device="cpu")
    if settings.start is not None:
        model.load_state_dict(load(card(settings.start)).state_dict(), strict=False)
    model = model.to(device).train()
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0)
    diffusion = Diffusion(torch.device(device), chosen.sampling.betas)
    condition = _conditions(chosen, torch.device(device))
    checkpoint = folder / "checkpoint.pt"
    with on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
    state = _resume(checkpoint, settings, model, average, optimizer)
    total, recent = settings.skip_steps + settings.steps, []
    started = time.monotonic() - state["seconds"]
    for step in range(state["step"], total):
        only_skip = step < settings.skip_steps
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not only_skip or ".skip." in name)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings)
        loss = _loss(model, settings, step, diffusion, condition)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        decay = min(settings.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()), list(model.parameters()), weight=1 - decay
            )
        recent.append(loss.detach())
        if (step + 1) % CURVE_EVERY == 0:
            mean = float(torch.stack(recent).mean())
            state["curve"].append([step + 1, round(mean, 5)])
            recent.clear()
            if progress:
                progress(step + 1, mean)
        if (step + 1) % CHECKPOINT_EVERY == 0:
            state.update(step=step + 1, seconds=time.monotonic() - started)
            _save(checkpoint, settings, state, model, average, optimizer)
    state["seconds"] = time.monotonic() - started
    average = average.cpu().eval()
    copy.deepcopy(average).half().save_pretrained(folder)
    before = _record(folder) if settings.start == settings.model else None
    record = {
        **({"before": before} if before else {}),
        "command": command,
        "settings": asdict(settings),
        "parameters": sum(p.numel() for p in average.parameters()),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU",
        "torch": torch.__version__,
        "seconds": round(state["seconds"], 1),
        "loss_curve": state["curve"],
    }
    write_whole(folder / "training.json", json.dumps(record).encode() + b"\n")
    checkpoint.unlink(missing_ok=True)
    return average


def _record(folder: Path) -> dict[str, Any] | None:
    """How the model that was in the folder was made."""
    path, fix = folder / "training.json", "delete it, or choose another --out"
    return read_json(path, dict, what="record of a training", fix=fix)


def _conditions(chosen: Card, device: torch.device) -> Condition:
    """(classes or captions, which of them are dropped) -> what the model is conditioned on."""
    if not chosen.text:
        null = chosen.num_classes or 0
        return lambda labels, dropped: {
            "class_labels": labels.masked_fill(dropped, null).to(device)
        }
    captions = LISTS[chosen.task]
    with tempfile.TemporaryDirectory() as folder:
        text.encode(chosen, captions, root=Path(folder))
        given, null_half = text.conditions(chosen, captions, root=Path(folder), device=str(device))

    def choose(labels: Tensor, dropped: Tensor) -> dict[str, Tensor]:
        labels, dropped = labels.to(device), dropped.to(device)
        return {
            key: torch.where(
                dropped.view(-1, *[1] * (value.dim() - 1)), null_half[key][labels], value[labels]
            )
            for key, value in given.items()
        }

    return choose


def _loss(
    model: "Network",
    settings: TrainingSettings,
    step: int,
    diffusion: Diffusion,
    condition: Condition,
) -> Tensor:
    """The loss on the batch of a step, which depends on seed and step alone."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
    chosen = card(settings.model)
    x0, labels = DATA[chosen.task](settings.batch_size, generator)
    dropped = torch.rand(len(labels), generator=generator) < settings.drop_label
    conditions = condition(labels, dropped)
    t = torch.randint(1000, (len(labels),), generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    x0, t, noise = (value.to(diffusion.signal.device) for value in (x0, t, noise))

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return model(x, t, **conditions, return_dict=False)[0]

    how: dict[str, Any] = {
        "noise": noise,
        "diffusion": diffusion,
        "channel_dim": model.CHANNEL_DIM,
        "min_snr": settings.min_snr,
    }
    if chosen.sampling.prediction == "v_prediction":
        return velocity_loss(denoise, x0, t, **how).mean()
    return hybrid_loss(denoise, x0, t, **how, noisy_weight=settings.noisy_weight).mean()


def _schedule(step: int, settings: TrainingSettings) -> float:
    """Warm-up over 200 steps, then a cosine to zero; each stage has its own."""
    stage_1 = step < settings.skip_steps
    length = settings.skip_steps if stage_1 else settings.steps
    step -= 0 if stage_1 else settings.skip_steps
    return min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / length))


def _save(
    path: Path,
    settings: TrainingSettings,
    state: dict,
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    content = {
        "settings": asdict(settings),
        "state": state,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with on_disk(path), replacing(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # what torch says of a full disk hides what the system said
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def _resume(
    path: Path,
    settings: TrainingSettings,
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> dict:
    if not path.exists():
        return {"step": 0, "seconds": 0.0, "curve": []}
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["settings"] != asdict(settings):
        raise UsageError(
            "the folder holds a run with other settings",
            place=str(path),
            fix="delete it or choose another --out",
        )
    model.load_state_dict(content["model"])
    average.load_state_dict(content["average"])
    optimizer.load_state_dict(content["optimizer"])
    return content["state"]
