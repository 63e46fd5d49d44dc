"""What is looked at while a model is trained: samples and scores of it as it is."""

import io
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skipdit_cli import registry
from skipdit_cli.errors import UsageError, placed, warn
from skipdit_cli.generate.options import Options, Stage, silent
from skipdit_cli.recipe import runs
from skipdit_cli.score.applicable import check
from skipdit_cli.score.measure import READERS, How, measure
from skipdit_cli.score.reference import NOT_KNOWN, identities
from skipdit_cli.score.sweep import generate
from skipdit_cli.storage import training
from skipdit_cli.storage.disk import on_disk, write_whole
from skipdit_cli.storage.store import open_store

if TYPE_CHECKING:
    from skipdit_cli.checkpoints.card import Card
    from skipdit_cli.run import Run

SHOWN, ROW = 16, 4  # samples in the picture, images in a row of it


@dataclass(frozen=True)
class Judge:
    """Generates samples of a model that is being trained, shows some and scores all.

    Attributes:
        folder: of the training run: a line in scores.jsonl for every score, and a picture of the
            first samples, samples-STEP.png.
        metrics: names; none makes the picture alone.
        settings: of the samples, as of `runs.make_run`.
        reference: what FID and the like compare with in place of their own, or None.
    """

    folder: Path
    metrics: Sequence[str]
    settings: dict[str, Any]
    device: str = "cpu"
    reference: Path | None = None
    stage: Stage = silent

    def require(self, chosen: "Card", *, own: bool) -> None:
        """See that the metrics can score samples of a model, before anything is computed.

        Args:
            own: whether it is trained on data that is not the product's.
        Raises:
            UsageError: one cannot, or there is nothing to compare with.
            MissingAssetError: what one needs is not here.
        """
        if self.reference and not self.reference.exists():
            raise UsageError(
                "no such file or folder", place=f"--reference {self.reference}", fix="name one"
            )
        with placed("--eval-steps"):
            how = chosen.sampling
            sampler = runs.sampler_of(chosen, how.sampler, {"guidance": how.guidance})
            sampler.timesteps(self.settings.get("steps", how.steps))
        chosen = replace(chosen, data="") if own else chosen
        dataset = "" if own else chosen.dataset
        for name in self.metrics:
            check(name, chosen, place="--eval")
            metric = registry.load("metrics", name.partition(".")[0])
            if metric.NEEDS == "pairs":
                raise UsageError(
                    f"{name} compares with samples without a cache, and there are no others here",
                    place="--eval",
                    fix="leave it out",
                )
            if metric.REFERENCE and not (dataset or self.reference):
                raise UsageError(
                    NOT_KNOWN.format(name),
                    place="--eval",
                    fix="give a folder of them with --reference",
                )
            identities(metric, dataset, given=self.reference)

    def __call__(self, step: int, export: Callable[[Path], None]) -> None:
        begun = time.monotonic()
        model, root = self.folder / "judged", self.folder / "judged-samples"
        try:
            with on_disk(model):
                model.mkdir(parents=True, exist_ok=True)
            export(model)
            run = runs.make_run(str(model), "none", self.settings)
            generate(run, Options(root=root, device=self.device, stage=self.stage, previews=False))
            _show(run, root, self.folder / f"samples-{step:07d}.png")
            for name in self.metrics:
                self._score(step, run, name, root, begun=begun)
        finally:
            shutil.rmtree(model, ignore_errors=True)
            shutil.rmtree(root, ignore_errors=True)

    def _score(self, step: int, run: "Run", name: str, root: Path, *, begun: float) -> None:
        how = How(device=self.device, workers=READERS, reference=self.reference)
        with self.stage(f"scoring {name} at step {step}") as update:
            result = measure(run, name, root=root, how=how, progress=update)
        if result.value is None:
            warn(f"{name} has no value at step {step}", place="--eval", fix=result.note)
        training.append(
            self.folder / training.SCORES,
            {
                "step": step,
                "metric": name,
                "value": result.value,
                "samples": run.num_samples,
                "seconds": round(time.monotonic() - begun, 1),
            },
        )


def _show(run: "Run", root: Path, picture: Path) -> None:
    """The first samples: images four in a row, clips a row each."""
    import numpy as np
    from PIL import Image

    store = open_store(root, run)
    shown = [store.read(index) for index in range(min(SHOWN, run.num_samples))]
    if shown[0].ndim == 3:
        shown = [np.stack(shown[i : i + ROW]) for i in range(0, len(shown) - ROW + 1, ROW)] or [
            np.stack(shown)
        ]
    rows = [np.concatenate(list(each), axis=1) for each in shown]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(file, "PNG")
    write_whole(picture, file.getvalue())
