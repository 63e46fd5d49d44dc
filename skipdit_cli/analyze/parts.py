"""Parts: what the tasks of an analysis find, kept until all is done, so that a stopped one goes on.

Every part is a task of an engine, in whatever process, and a file of arrays under the results
folder.
"""

import functools
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skipdit_cli.checkpoints.card import file_name
from skipdit_cli.errors import SkipditError
from skipdit_cli.generate.engine import run_tasks
from skipdit_cli.generate.options import Options
from skipdit_cli.generate.worker import Task
from skipdit_cli.storage import kept
from skipdit_cli.storage.analysis import FOLDER
from skipdit_cli.storage.disk import write_whole
from skipdit_cli.storage.lock import held

if TYPE_CHECKING:
    from torch import Tensor

PART = kept.Kind("part of an analysis", 1)

# Called in whatever process; a module-level function or a `functools.partial` of one over small
# arguments. Gives arrays by name.
Measure = Callable[[], "Mapping[str, Tensor]"]


class Parts:
    """The parts of one analysis.

    Args:
        said: all that the parts depend on, as text: the run's key, settings, version of the code.
        options: where they are computed, and the results folder.
        title: of the progress display.
    """

    def __init__(self, said: str, options: Options, *, title: str) -> None:
        name = hashlib.sha256(said.encode()).hexdigest()[:16]
        self.folder, self.options, self.title = (
            options.root / FOLDER / "parts" / name,
            options,
            title,
        )

    @contextmanager
    def held(self) -> "Iterator[Parts]":
        """One process at a time; what was kept is removed in the end, if nothing went wrong."""
        with held(self.folder):
            yield self
        shutil.rmtree(self.folder, ignore_errors=True)

    def compute(self, measures: Mapping[str, Measure], what: str = "") -> None:
        """Have every part computed that is not here yet, each under its name."""
        missing = [name for name in measures if not self._path(name).exists()]
        tasks = [
            Task(functools.partial(_measure, measures[name], self._path(name)), [i], str(i))
            for i, name in enumerate(missing)
        ]
        if not tasks:
            return
        with self.options.stage(f"{self.title}: {what}" if what else self.title) as update:
            done = len(measures) - len(missing)
            update(done, len(measures))

            def on_done(task: Task, given: list[object]) -> None:
                nonlocal done
                done += 1
                update(done, len(measures))

            run_tasks(tasks, engine=self.options.engine, on_done=on_done)

    def read(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a part that was computed.

        Raises:
            SkipditError: its file is gone.
        """
        return {key: value.numpy() for key, value in read(self.folder, name).items()}

    def _path(self, name: str) -> Path:
        return _file(self.folder, name)


def read(folder: Path, name: str) -> "dict[str, Tensor]":
    """A part that was computed, for the task of another one.

    Args:
        folder: of the `Parts`.
    Raises:
        SkipditError: its file is gone.
    """
    path = _file(folder, name)
    found = kept.read_tensors(path, PART, of=_of(path))
    if found is None:
        raise SkipditError("is not there any more", place=str(path), fix="begin again")
    return found


def _file(folder: Path, name: str) -> Path:
    return folder / f"{file_name(name)}.safetensors"


def _measure(measure: Measure, path: Path, batch: list[int]) -> None:
    from safetensors.torch import save

    found = {name: value.detach().cpu().contiguous() for name, value in measure().items()}
    write_whole(path, kept.sealed_arrays(save(found), PART, of=_of(path)))


def _of(path: Path) -> str:
    return f"{path.parent.name} {path.stem}"
