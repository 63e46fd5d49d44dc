"""Train a denoiser: from scratch, further, or in the two stages of arXiv 2411.17616, section 3.2.

Stage 1 trains the skip branches alone beside trained weights, stage 2 everything. The moving
average of the weights is what is kept. A killed run continues at its last checkpoint, one that was
interrupted by Ctrl-C after its last step, with the data it would have seen; on one process it ends
in the same bits.

Processes share the batch of a step, so that their number changes sums in the last bits and nothing
else (accelerate; torch's launcher or --processes start them).
"""

import functools
import json
import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from skipdit_cli.errors import SkipditError, UsageError
from skipdit_cli.precision import products
from skipdit_cli.storage import lock
from skipdit_cli.storage.disk import on_disk, read_json, remove_leftovers, write_whole
from skipdit_cli.storage.training import ASKED, RECORD, Logged
from skipdit_cli.train import checkpoint, interrupts, network
from skipdit_cli.train.loss import Diffusion, hybrid_loss, velocity_loss
from skipdit_cli.train.meter import Meter
from skipdit_cli.train.processes import Processes
from skipdit_cli.train.settings import TrainingSettings
from skipdit_cli.train.source import APART, WHOLE, Drawn, Source, generator

if TYPE_CHECKING:
    from skipdit_cli.models import Network

CHECKPOINT = "checkpoint.pt"
POINTS = 200  # of the loss curve in the record


Export = Callable[[Path], None]  # writes the average as a model into a folder


@dataclass(frozen=True)
class Watch:
    """What goes on beside training, and changes nothing in it.

    Attributes:
        log_every: steps between two calls of `on_log`.
        checkpoint_every: steps between two checkpoints, at least; they are written where there is
            something to log.
        on_log: called in the main process alone.
        judge_every: steps between two calls of `judge`, which is called after the last step as
            well; 0 for never.
        judge: called in the main process alone with the steps that are done and what writes the
            model as it is.
        half: write the weights in float16.
        checkpointing: compute the layers again in the backward pass in place of keeping what they
            gave.
    """

    log_every: int = 50
    checkpoint_every: int = 500
    on_log: Callable[[Logged], None] = lambda logged: None
    judge_every: int = 0
    judge: Callable[[int, Export], None] = lambda step, export: None
    half: bool = False
    checkpointing: bool = False


@dataclass
class _State:
    """What a checkpoint holds beside tensors."""

    step: int = 0
    seconds: float = 0.0
    curve: list[list[float]] = field(default_factory=list)


def train(
    settings: TrainingSettings,
    folder: Path,
    *,
    source: Source | None = None,
    device: str = "cpu",
    sharded: bool = False,
    command: str = "",
    watch: Watch | None = None,
) -> "Network":
    """Train and write `config.json`, `card.json`, weights and `training.json` into a folder.

    Args:
        source: the samples; those of an embedded model's own data unless given.
        sharded: as of `Processes`.
        command: the command line, kept in the record.
    Returns:
        The moving average of the model, float32 on the CPU.
    Raises:
        UsageError: the folder holds a run with other settings, or the start does not fit.
        HeldError: another process trains into it.
        SkipditError: the loss is no number any more.
        StoreError: the disk.
    """
    watch, source = watch or Watch(), source or Drawn(settings.card)
    with ExitStack() as stack:
        processes = stack.enter_context(Processes(settings.precision, device, sharded=sharded))
        settings.check_share(processes.count)
        if processes.main:
            stack.enter_context(lock.held(folder))
            with on_disk(folder):
                remove_leftovers(folder)
        processes.wait()
        stack.enter_context(products(settings.precision))
        return _Training(settings, folder, source, processes, watch).run(command)


@dataclass(frozen=True)
class _Part:
    """Rows that are computed together; [rows, ...] each.

    Attributes:
        x0, t, noise: as of the losses.
        conditions: what the network is told of them.
        images: whether these are frames that stand alone, of clips.
    """

    x0: Tensor
    t: Tensor
    noise: Tensor
    conditions: dict[str, Tensor]
    images: bool = False


class _Training:
    """A run of `train`."""

    def __init__(
        self,
        settings: TrainingSettings,
        folder: Path,
        source: Source,
        processes: Processes,
        watch: Watch,
    ) -> None:
        self._settings, self._folder, self._source = settings, folder, source
        self._processes, self._watch = processes, watch
        self._rows = processes.rows(settings.batch_size, parts=settings.accumulate)
        self._diffusion = Diffusion(processes.device, settings.card.sampling.betas)
        model = network.started(settings).to(processes.device).train()
        if watch.checkpointing:
            network.checkpoint_layers(model)
        self._shape = model.inputs(1)["hidden_states"].shape[1:]
        self._frame_dim = 3 - model.CHANNEL_DIM  # of clips
        self._frames = self._shape[self._frame_dim - 1]
        self._file = folder / CHECKPOINT
        kept = checkpoint.read(self._file, asdict(settings))
        self._state = _State(**kept["state"]) if kept else _State()
        self._saved = self._state.step
        if kept:
            model.load_state_dict(kept["model"])
        processes.share_out(model)
        self._model = network.Trained(model, settings, processes, self._state.step)
        if kept:
            self._model.load(kept)

    def run(self, command: str) -> "Network":
        settings, state = self._settings, self._state
        if self._processes.main:
            asked = json.dumps({"settings": asdict(settings)}).encode() + b"\n"
            write_whole(self._folder / ASKED, asked)
        meter = Meter(state.seconds)
        try:
            self._steps(meter)
            state.seconds = meter.seconds()
            return self._finish(command)
        except KeyboardInterrupt:
            state.seconds = meter.seconds()
            alone = not self._processes.sharded  # or parts would be asked of other processes
            if alone and state.step > self._saved and meter.finite():
                with interrupts.deferred():  # a launcher passes Ctrl-C on as well
                    self._write()  # other processes may be in a step, and are not waited for
            raise

    def _steps(self, meter: Meter) -> None:
        """The steps that are not done yet; Ctrl-C comes between two of them."""
        settings, state, watch = self._settings, self._state, self._watch
        with ThreadPoolExecutor(1) as reader:
            coming = self._ask(reader, state.step)
            for step in range(state.step, settings.total):
                given, coming = coming.result(), self._ask(reader, step + 1)
                with interrupts.deferred():
                    self._model.stage(step)
                    meter.add(*self._step(step, given))
                    state.step, last = step + 1, step + 1 == settings.total
                    if state.step % watch.log_every == 0 or last:
                        self._log(meter)
                        if state.step - self._saved >= watch.checkpoint_every and not last:
                            self._save()
                        meter.restart()
                if watch.judge_every and state.step % watch.judge_every == 0 and not last:
                    with meter.aside():
                        self._judge()

    def _log(self, meter: Meter) -> None:
        """Tell of the steps since the last time; all processes have a part in the loss."""
        loss, norm = meter.means()
        loss, count = self._processes.mean(loss), meter.steps() * self._settings.batch_size
        if not math.isfinite(loss):
            raise SkipditError(
                f"the loss is {loss} at step {self._state.step}",
                place=str(self._folder),
                fix="take a lower --learning-rate, or --clip 1; the last checkpoint is kept",
            )
        self._state.seconds = meter.seconds()
        self._state.curve.append([self._state.step, round(loss, 5)])
        if self._processes.main:
            self._watch.on_log(
                Logged(
                    step=self._state.step,
                    loss=loss,
                    learning_rate=network.rate(self._settings, self._state.step - 1),
                    gradient_norm=norm,
                    samples_per_second=count / meter.since(),
                    seconds=self._state.seconds,
                    memory_bytes=self._processes.memory(),
                )
            )

    def _ask(self, reader: ThreadPoolExecutor, step: int) -> "Future[list[list[_Part]]]":
        """The parts of a step's batch that this process computes, read beside the step before."""
        return reader.submit(self._parts, step)

    def _parts(self, step: int) -> list[list[_Part]]:
        settings = self._settings
        if step >= settings.total:
            return []
        size, seed, images = settings.batch_size, settings.seed, settings.images_per_clip
        drawn = generator(seed, step, WHOLE)
        dropped = torch.rand(size, generator=drawn) < settings.drop
        t = torch.randint(1000, (size,), generator=drawn)
        noise = torch.randn((size, *self._shape), generator=drawn)
        parts = []
        for rows in self._rows:
            place = slice(rows.start, rows.stop)
            x0, labels = self._source.batch(step, rows, size=size, seed=seed)
            conditions = self._source.conditions(labels, dropped[place])
            parts.append([_Part(x0, t[place], noise[place], conditions)])
            if images:
                parts[-1].append(self._images(step, rows, t[place], images))
        return parts

    def _images(self, step: int, rows: range, t: Tensor, count: int) -> _Part:
        """What is trained on beside clips: frames of others, at the timestep of their clip."""
        seed, along, columns = self._settings.seed, self._frame_dim, []
        for row in rows:  # each from generators of its own, however rows are shared out
            clips, labels = self._source.others(step, row, count=count, seed=seed)
            drawn = generator(seed, step, APART + row)
            frame = torch.randint(self._frames, (count,), generator=drawn)
            x0 = clips.movedim(along, 1)[torch.arange(count), frame].unsqueeze(along)
            noise = torch.randn(x0.shape, generator=drawn)
            dropped = torch.rand(count, generator=drawn) < self._settings.drop
            columns.append((x0, labels, noise, dropped))
        x0, labels, noise, dropped = (torch.cat(each) for each in zip(*columns, strict=True))
        conditions = self._source.conditions(labels, dropped)
        return _Part(x0, t.repeat_interleave(count), noise, conditions, images=True)

    def _step(self, step: int, parts: list[list[_Part]]) -> tuple[Tensor, Tensor]:
        """One step of the optimizer: mean loss of this process's rows, and the gradient's norm."""
        losses = []
        for i, part in enumerate(parts):
            with self._model.computing(last=i == len(parts) - 1):
                loss, *images = [self._loss(each) for each in part]
                if images:  # the mean over all frames
                    count, frames = self._settings.images_per_clip, self._frames
                    beside = images[0].unflatten(0, (-1, count)).mean(1)
                    loss = (frames * loss + count * beside) / (frames + count)
                self._processes.backward(loss.sum() / sum(map(len, self._rows)))
            losses.append(loss.detach())
        norm = self._model.update(step)
        return torch.cat(losses).mean(), norm

    def _loss(self, part: _Part) -> Tensor:
        """The loss of each row."""
        settings, device = self._settings, self._processes.device
        x0, t, noise = (each.to(device) for each in (part.x0, part.t, part.noise))
        given: dict[str, Any] = {key: value.to(device) for key, value in part.conditions.items()}
        given |= {"enable_temporal_attentions": False} if part.images else {}

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            with self._processes.autocast():
                out: Tensor = self._model(x, t, **given, return_dict=False)[0]
            return out.float()

        how: dict[str, Any] = {
            "noise": noise,
            "diffusion": self._diffusion,
            "channel_dim": self._model.network.CHANNEL_DIM,
            "min_snr": settings.min_snr or None,
        }
        if settings.card.sampling.prediction == "v_prediction":
            return velocity_loss(denoise, x0, t, **how)
        return hybrid_loss(denoise, x0, t, **how, noisy_weight=settings.noisy_weight)

    def _save(self) -> None:
        self._write()
        self._processes.wait()

    def _write(self) -> None:
        content = {"settings": asdict(self._settings), "state": vars(self._state)}
        content |= self._model.state()
        if self._processes.main:
            checkpoint.write(self._file, content)
        self._saved = self._state.step

    def _judge(self, average: "Network | None" = None) -> None:
        """Have the model looked at as it is, or the average of it; other processes wait."""
        average = average or self._model.averaged()
        if self._processes.main:
            write = functools.partial(network.write, average, self._settings, half=self._watch.half)
            self._watch.judge(self._state.step, write)
        self._processes.wait()

    def _finish(self, command: str) -> "Network":
        settings, average = self._settings, self._model.averaged()
        if self._watch.judge_every:
            self._judge(average)
        if self._processes.main:
            before = _record(self._folder) if settings.start == settings.model else None
            network.write(average, settings, self._folder, half=self._watch.half)
            every = -(-len(self._state.curve) // POINTS)
            record = {
                **({"before": before} if before else {}),
                "command": command,
                "settings": asdict(settings),
                "parameters": sum(p.numel() for p in average.parameters()),
                "processes": self._processes.count,
                "device": self._processes.named,
                "torch": torch.__version__,
                "seconds": round(self._state.seconds, 1),
                "loss_curve": self._state.curve[every - 1 :: every],
            }
            write_whole(self._folder / RECORD, json.dumps(record).encode() + b"\n")
            self._saved = self._state.step
            for file in (self._file, self._folder / ASKED):
                file.unlink(missing_ok=True)
        self._processes.wait()
        return average


def _record(folder: Path) -> dict[str, Any] | None:
    """How the model that was in the folder was made."""
    path, fix = folder / RECORD, "delete it, or choose another --out"
    return read_json(path, dict, what="record of a training", fix=fix)


def refuse_other(folder: Path) -> None:
    """Raise a UsageError where a folder holds a model that is finished."""
    if (folder / RECORD).exists():
        raise UsageError(
            "holds a model that is trained already",
            place=str(folder),
            fix="choose another --out, or delete it",
        )
