"""The engine of a Slurm queue: array jobs that write into the results folder and need no driver.

    <results>/slurm/<submission>/
        jobs.json       the array's number, and the tasks of each of its jobs
        3.json          task 3 has ended, and with what error if with one
        logs/           what submitit keeps: what each job runs, and what it printed

A job works on its tasks in turn. One that is cut off, at its time limit or for another job, is put
in the queue again and goes on with the task at hand. The driver looks at what has ended; while it
is gone the jobs go on, and one that comes back waits for those that are still in the queue.
"""

import json
import os
import shutil
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

from skipdit_cli import errors
from skipdit_cli.errors import SkipditError, UsageError, warn
from skipdit_cli.generate import worker
from skipdit_cli.generate.behind import Behind
from skipdit_cli.generate.engine import ATTEMPTS
from skipdit_cli.generate.worker import OnDone, OnFailed, Task
from skipdit_cli.storage.disk import on_disk, put, read_json

SHARES = 4  # jobs of an array for every one that runs at a time: none waits long for the last
LOOKS = 2.0  # seconds between two looks at what has ended
ASKS = 20.0  # seconds between two questions to the queue
MINUTES = 60  # time limit of a job, if nothing is said
CUT_OFF = 10_000  # times that a job may be
_NEVER = (
    f"a batch ended with its job {ATTEMPTS} times: killed, or out of memory; the logs are there"
)


@dataclass(frozen=True)
class Slurm:
    """Array jobs.

    Attributes:
        workers: jobs that run at a time.
        folder: the results folder, which every node sees.
        gpus: of each job, 1 or 0.
        settings: of sbatch, by name as submitit knows them: partition, account, qos, mem, ...;
            `time` is in minutes.
    Raises:
        UsageError: submitit is not installed, or there is no sbatch.
    """

    workers: int
    folder: Path
    gpus: int = 0
    settings: Mapping[str, str | int] = field(default_factory=dict)

    processes_here = 0
    shared = True

    def __post_init__(self) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError:
            fix = "pip install 'skipdit[slurm]'"
            raise UsageError("submitit is not installed", place="--engine slurm", fix=fix) from None
        if shutil.which("sbatch") is None:
            fix = "run it on a machine from which jobs are submitted"
            raise UsageError("there is no sbatch here", place="--engine slurm", fix=fix)

    def run(self, tasks: Iterator[Task], *, on_done: OnDone, on_failed: OnFailed) -> None:
        """As of `Engine`; all tasks are submitted at once."""
        left = {id(task): task for task in tasks}
        submitted: Counter[int] = Counter()
        arrays = _adopted(self.folder, [*left.values()])
        try:
            while left:
                awaited = {id(task) for array in arrays for task in array.tasks.values()}
                lost = [task for key, task in left.items() if key not in awaited]
                for task in lost:
                    submitted[id(task)] += 1
                    if submitted[id(task)] > ATTEMPTS:
                        del left[id(task)]
                        on_failed(task, SkipditError(_NEVER, place=str(self.folder / "slurm")))
                if lost := [task for task in lost if id(task) in left]:
                    arrays.append(self._submit(lost))
                self._watch(arrays, left, on_done=on_done, on_failed=on_failed)
        except Exception:
            for array in arrays:
                array.cancel()
            raise
        except BaseException:  # Ctrl-C
            numbers = " ".join(array.number for array in arrays if array.tasks)
            warn(
                f"jobs {numbers} are still in the queue",
                fix=f"the same command waits for them, `scancel {numbers}` ends them",
            )
            raise
        for array in arrays:
            if not array.failed:
                _remove(array.place)

    def _submit(self, tasks: Sequence[Task]) -> "_Array":
        """Put an array of jobs into the queue."""
        import submitit

        place = self.folder.absolute() / "slurm" / uuid.uuid4().hex[:12]
        threads = worker.pin_threads()
        count = min(len(tasks), self.workers * SHARES)
        numbered = [*enumerate(tasks)]
        ends = [i * len(tasks) // count for i in range(count + 1)]
        jobs = [numbered[start:end] for start, end in pairwise(ends)]
        with on_disk(place):
            place.mkdir(parents=True)
        executor = submitit.SlurmExecutor(place / "logs", max_num_timeout=CUT_OFF)
        settings: dict[str, Any] = {
            "time": MINUTES,
            "cpus_per_task": threads,
            "job_name": "skipdit",
            "array_parallelism": self.workers,
            **({"gpus_per_node": self.gpus} if self.gpus else {}),
            **self.settings,
        }
        try:
            executor.update_parameters(**settings)
            with redirect_stderr(StringIO()), executor.batch():  # the error has the last line
                submitted = [
                    executor.submit(_Job(each, place, threads, os.getcwd())) for each in jobs
                ]
        except (TypeError, ValueError) as error:
            _remove(place)
            words = str(error).strip().partition("\n")[0]
            raise UsageError(words, place="--slurm", fix="see sbatch --help") from None
        except submitit.core.utils.FailedJobError as error:
            _remove(place)
            words = str(error).strip().splitlines()[-1]
            raise UsageError(f"sbatch refused the jobs: {words}", place="--engine slurm") from None
        array = submitted[0].job_id.partition("_")[0]
        told = [{"of": task.of, "batch": task.batch} for task in tasks]
        with on_disk(place):
            put(place / "jobs.json", json.dumps({"array": array, "tasks": told}).encode())
        return _Array(place, array, dict(numbered))

    def _watch(
        self,
        arrays: Sequence["_Array"],
        left: dict[int, Task],
        *,
        on_done: OnDone,
        on_failed: OnFailed,
    ) -> None:
        """Tell of tasks that end, until one of the arrays has left the queue without all of its."""
        asked = time.monotonic()
        while True:
            ask = time.monotonic() - asked > ASKS
            asked = time.monotonic() if ask else asked
            for array in arrays:
                # asked first: what a job did last is seen behind it
                gone = ask and bool(array.tasks) and not in_queue(array.number)
                for task, error in array.ended():
                    del left[id(task)]
                    if error is None:
                        on_done(task, [])
                    else:
                        on_failed(task, error)
                if gone and array.tasks:
                    array.tasks.clear()
                    array.failed = True
                    return
            if not left:
                return
            time.sleep(LOOKS)


@dataclass(frozen=True)
class _Job:
    """What one job of an array does: its tasks that have not ended, in turn."""

    tasks: Sequence[tuple[int, Task]]
    place: Path
    threads: int
    folder: str

    def __call__(self) -> None:
        os.chdir(self.folder)  # paths may be relative to it
        worker.pin_threads(self.threads)
        with Behind(self._end) as behind:
            for number, task in self.tasks:
                if not _ended(self.place, number).exists():
                    behind.run(number, task.work, task.batch)

    def checkpoint(self) -> Any:
        """What is put in the queue again when the job is cut off; submitit calls it."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _end(self, number: int, given: list[object], error: BaseException | None) -> None:
        if _cut_off(error):
            return  # it is in the queue again, or else will be missed there
        with on_disk(self.place):
            put(_ended(self.place, number), json.dumps({"error": _told(error)}).encode())


def _cut_off(error: BaseException | None) -> bool:
    """Whether the queue ended the job before what puts it there again had answered."""
    asked = isinstance(error, subprocess.CalledProcessError) and error.cmd[:2]
    return asked == ["scontrol", "requeue"]


@dataclass
class _Array:
    """Jobs that are in the queue.

    Attributes:
        place: what they tell of is there.
        number: of the array.
        tasks: that have not ended, by their number.
        failed: whether the jobs left the queue without some: then their logs are kept.
    """

    place: Path
    number: str
    tasks: dict[int, Task]
    failed: bool = False

    def ended(self) -> list[tuple[Task, BaseException | None]]:
        """The tasks that have ended since, and the error of each or None."""
        told = []
        with on_disk(self.place):
            names = {*os.listdir(self.place)}
        for number in [*self.tasks]:
            path = _ended(self.place, number)
            if path.name not in names:
                continue
            if found := read_json(path, dict, what="word of a job", fix="remove it"):
                told.append((self.tasks.pop(number), _raised(found["error"])))
        return told

    def cancel(self) -> None:
        """Take the jobs out of the queue."""
        with suppress(OSError):
            subprocess.run(["scancel", self.number], check=False, capture_output=True)
        if not self.failed:
            _remove(self.place)


def _remove(place: Path) -> None:
    """Remove what jobs told of."""
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):
        place.parent.rmdir()  # if it was the last


def in_queue(number: str) -> bool:
    """Whether jobs of an array are waiting or running; True where the queue does not answer."""
    asked = ["squeue", "--noheader", "--jobs", number, "--format", "%T"]
    try:
        done = subprocess.run(asked, check=False, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return True
    if done.returncode:
        return "Invalid job id" not in done.stderr
    return any(state not in ENDED for state in done.stdout.split())


ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL")


def _adopted(folder: Path, tasks: Sequence[Task]) -> list[_Array]:
    """The arrays of an earlier command that still work on some of the tasks."""
    found, left = [], [*tasks]
    for path in sorted((folder.absolute() / "slurm").glob("*/jobs.json")):
        known = read_json(path, dict, what="list of jobs", fix="remove it")
        if known is None or not in_queue(known["array"]):
            continue
        theirs: dict[int, Task] = {}
        for number, told in enumerate(known["tasks"]):
            for task in left:
                # a batch of which no sample is wanted is the first: something else of it is
                wider = {*(task.batch or [0])} <= {*(told["batch"] or [0])}
                if task.of == told["of"] and wider:
                    theirs[number] = task
                    left.remove(task)
                    break
        if theirs:
            found.append(_Array(path.parent, known["array"], theirs))
    return found


def _ended(place: Path, number: int) -> Path:
    return place / f"{number}.json"


def _told(error: BaseException | None) -> dict[str, str] | None:
    """An error as JSON can hold it."""
    if error is None:
        return None
    if isinstance(error, SkipditError):
        words = {"problem": error.problem, "place": error.place, "fix": error.fix}
        return {"kind": type(error).__name__, **words}
    return {"kind": "SkipditError", "problem": f"{type(error).__name__}: {error}"}


def _raised(told: Mapping[str, str] | None) -> BaseException | None:
    if told is None:
        return None
    kind = getattr(errors, told["kind"], SkipditError)
    kind = kind if isinstance(kind, type) and issubclass(kind, SkipditError) else SkipditError
    return kind(told["problem"], place=told.get("place", ""), fix=told.get("fix", ""))
