"""What a training run depends on; its defaults are those of the command line."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli.checkpoints.catalog import card
from skipdit_cli.errors import UsageError, unknown
from skipdit_cli.precision import PRECISIONS

if TYPE_CHECKING:
    from skipdit_cli.checkpoints.card import Card

SCHEDULES = ("cosine", "linear", "constant")
STAGES = ("all", "skip")


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run depends on, apart from how many processes share the work.

    Attributes:
        model: name of the checkpoint, or folder, whose architecture is trained.
        data: what tells the data from other data; "" for that of an embedded model.
        start: the checkpoint that training starts from: the vanilla model of a skip model, or one
            of the same architecture; None draws all weights.
        stage: "all" trains all weights, "skip" the skip branches alone, for all steps.
        skip_steps: steps of a first stage, of the skip branches alone.
        steps: all other steps.
        batch_size: samples per step, of all processes together.
        learning_rate: peak; each stage is warmed up to it.
        schedule: where it goes from there: to zero by a cosine or a line, or nowhere.
        warm_up: steps of the warm-up.
        ema: decay of the moving average of weights; lower in the first steps.
        drop: share of labels or captions that are made null, for classifier-free guidance.
        min_snr, noisy_weight: as of `hybrid_loss`; a cap of 0 is none.
        clip: norm that gradients are cut to; 0 for none.
        clip_from: the first step at which they are.
        precision: of the network's products; weights and their average are float32.
        accumulate: parts that the batch of a process is computed in.
        images_per_clip: images that are trained on beside each clip.
        architecture: constructor arguments that differ from the checkpoint's.
        seed: of data, noise and drawn weights.
    Raises:
        UsageError: the model cannot be trained so.
    """

    model: str
    data: str = ""
    start: str | None = None
    stage: str = "all"
    skip_steps: int = 0
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warm_up: int = 200
    ema: float = 0.995
    drop: float = 0.1
    min_snr: float = 5.0
    noisy_weight: float = 1.0
    clip: float = 1.0
    clip_from: int = 0
    precision: str = "float32"
    accumulate: int = 1
    images_per_clip: int = 0
    architecture: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("schedule", SCHEDULES),
            ("stage", STAGES),
            ("precision", PRECISIONS),
        ):
            if (value := getattr(self, name)) not in known:
                raise unknown(name, value, known, place=f"--{name}")
        self._check_numbers()
        self._check_stages()
        self._check_weights()
        if self.images_per_clip and self.card.task not in ("c2v", "t2v"):
            raise UsageError(
                f"{self.model} makes images, not clips",
                place="--images-per-clip",
                fix="leave it out",
            )

    def _check_weights(self) -> None:
        """Raise a UsageError where a weight of the loss has no meaning for the model."""
        velocity = self.card.sampling.prediction == "v_prediction"
        given = [
            name
            for name in ("noisy_weight", "min_snr")
            if getattr(self, name) != getattr(TrainingSettings, name)
        ]
        if "noisy_weight" in given and velocity:
            raise UsageError(
                f"{self.model} predicts velocity, whose loss weighs noisy samples already",
                place="--noisy-weight",
                fix="leave it out",
            )
        if given and self.card.pipeline:
            raise UsageError(
                f"{self.model} is trained by flow matching, whose loss has no weights",
                place=f"--{given[0].replace('_', '-')}",
                fix="leave it out",
            )

    @cached_property
    def card(self) -> "Card":
        """The checkpoint that is trained, with the architecture that it gets."""
        base = card(self.model, place="--model")
        known = "" if self.data else base.data
        return replace(base, arguments={**base.arguments, **self.architecture}, data=known)

    @property
    def label(self) -> str:
        """Name of the model for people."""
        return Path(self.model).name

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return self.skip_steps + self.steps

    @property
    def first_stage(self) -> int:
        """Steps that train the skip branches alone."""
        return self.total if self.stage == "skip" else self.skip_steps

    def _check_numbers(self) -> None:
        for names, least in (
            (("steps", "batch_size", "accumulate", "noisy_weight"), 1),
            (("skip_steps", "warm_up", "clip", "clip_from", "min_snr", "seed"), 0),
            (("images_per_clip",), 0),
        ):
            for name in names:
                if (value := getattr(self, name)) < least:
                    option = f"--{name.replace('_', '-')}"
                    raise UsageError(
                        f"{value:g} is too low", place=option, fix=f"take {least} or more"
                    )
        if not 0 < self.learning_rate < float("inf"):
            raise UsageError(
                f"{self.learning_rate} is not a learning rate",
                place="--learning-rate",
                fix="give a number above 0",
            )
        for name in ("ema", "drop"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise UsageError(
                    f"{value:g} is not a share", place=f"--{name}", fix="take 0 to below 1"
                )

    def check_warm_up(self) -> None:
        """Raise a UsageError where training ends before the warm-up does."""
        if self.warm_up > self.steps:
            raise UsageError(
                f"{self.warm_up} steps up to the peak are more than the {self.steps} of training",
                place="--warm-up",
                fix="take fewer, or more --steps",
            )

    def check_share(self, processes: int) -> None:
        """Raise a UsageError unless processes can share a batch evenly."""
        share = processes * self.accumulate
        if self.batch_size % share:
            many = f"{processes} processes" if processes > 1 else "one process"
            raise UsageError(
                f"{self.batch_size} samples cannot be shared by {many} in {self.accumulate} parts",
                place="--batch-size",
                fix=f"take a multiple of {share}",
            )

    def _check_stages(self) -> None:
        """A first stage needs skip branches that were added, and weights beside them."""
        added = self.card.skip and not self.card.native_skip
        if self.first_stage and not added:
            fix = "models with native skip branches are trained at once"
            raise UsageError(
                f"{self.model} has no skip branches that were added to it",
                place="--stage skip" if self.stage == "skip" else "--skip-steps",
                fix=fix if self.card.native_skip else "leave it out",
            )
        if self.first_stage and self.start is None:
            raise UsageError(
                "skip branches alone are trained beside weights that are trained already",
                place="--start",
                fix=f"name the vanilla model, or leave out the first stage to train {self.model} "
                "from scratch",
            )
        if self.stage == "skip" and self.skip_steps:
            raise UsageError(
                "all steps train the skip branches alone",
                place="--stage skip",
                fix="give their number as --steps",
            )
