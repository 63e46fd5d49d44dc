"""What a training run depends on; its defaults are those of the command line."""

from dataclasses import dataclass

from skipdit_cli.errors import UsageError


@dataclass(frozen=True)
class TrainingSettings:
    """What a training run depends on.

    Attributes:
        model: name of an embedded model.
        start: the vanilla model that a skip model starts from, or the model itself, to be trained
            further.
        skip_steps: steps of stage 1 (the skip branches alone); 0 for a vanilla model.
        steps: steps of all other training.
        batch_size: samples per step.
        learning_rate: peak; warmed up, then cosine to zero.
        ema: decay of the moving average of weights.
        drop_label: share of labels made null.
        min_snr: as in `hybrid_loss`.
        noisy_weight: as in `hybrid_loss`; velocity needs no weight for noisy samples.
        seed: of data, noise and initial weights.
    Raises:
        UsageError: the model cannot be trained here, or not so.
    """

    model: str
    start: str | None = None
    skip_steps: int = 0
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 2e-3
    ema: float = 0.995
    drop_label: float = 0.1
    min_snr: float = 5.0
    noisy_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        from skipdit_cli.checkpoints.catalog import card

        chosen = card(self.model, place="--model")
        if not chosen.embedded:
            raise UsageError(
                f"{self.model} cannot be trained here: its data is not shipped",
                place="--model",
                fix="take an embedded model, such as digits-skip",
            )
        further = self.start == self.model
        staged = self.start is not None and not further
        added = chosen.skip and not chosen.native_skip
        if staged != (self.skip_steps > 0) or (staged != added and not further):
            fix = ""
            if further:
                fix = f"to train {self.model} further leave out --skip-steps"
            elif chosen.native_skip:
                fix = "models with native skip branches are trained at once"
            raise UsageError(
                "skip models, and only they, start from a vanilla model and have a first stage",
                place="--start, --skip-steps",
                fix=fix,
            )
        if self.noisy_weight < 1:
            raise UsageError(
                f"{self.noisy_weight:g} is below 1", place="--noisy-weight", fix="take 1 or more"
            )
        if self.noisy_weight > 1 and chosen.sampling.prediction == "v_prediction":
            raise UsageError(
                f"{self.model} predicts velocity, whose loss weighs noisy samples already",
                place="--noisy-weight",
                fix="leave it out",
            )
        if self.start is not None and staged:
            start = card(self.start, place="--start")
            if start.skip or (start.family, start.variant) != (chosen.family, chosen.variant):
                raise UsageError(
                    f"{self.start} is not the vanilla model of {self.model}", place="--start"
                )
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative", place="--seed", fix="take 0 or more")
        if min(self.steps, self.batch_size) < 1:
            raise UsageError(
                "steps and batch size must be 1 or more", place="--steps, --batch-size"
            )
