"""Several processes that train together, started by torch's own launcher."""

import os
import subprocess
import sys
from collections.abc import Sequence

OPTION = "--processes"


def rank() -> int:
    """Which of the processes this is; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def launched() -> bool:
    """Whether a launcher has started this process."""
    return "RANK" in os.environ


def launch(count: int, argv: Sequence[str]) -> int:
    """Run this command in several processes, and wait for them.

    Args:
        argv: the command's arguments, of which the number of processes is left out.
    Returns:
        Their exit code.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(count), "-m", "--", "skipdit_cli"),  # or it reads our options
        *without(argv),
    ]
    threads = max(1, (os.cpu_count() or 1) // count)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    return subprocess.run(command, env=environment, check=False).returncode


def without(argv: Sequence[str]) -> list[str]:
    """Arguments without the number of processes.

    >>> without(["train", "--processes", "2", "--seed", "1", "--processes=4"])
    ['train', '--seed', '1']
    """
    kept: list[str] = []
    after = False
    for word in argv:
        if not (after or word == OPTION or word.startswith(f"{OPTION}=")):
            kept.append(word)
        after = word == OPTION
    return kept
