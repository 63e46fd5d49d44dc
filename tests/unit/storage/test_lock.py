"""Who holds a run: told to people, to the next process, and to other machines."""

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from skipdit_cli.errors import StoreError
from skipdit_cli.storage.lock import Holder, held, holder_of, seen_held

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "holder"),
    [
        ("12 2026-03-04T05:06:07+00:00 node7\n", Holder(12, AT, "node7")),
        ("12 2026-03-04T05:06:07+00:00 a host\n", Holder(12, AT, "a host")),
        ("12", Holder(12)),  # as earlier versions wrote it
        ("", None),
        ("twelve", None),
        ("12 yesterday node7", None),
    ],
)
def test_what_is_told_of_a_holder(tmp_path, text, holder):
    (tmp_path / "run.pid").write_text(text)
    assert holder_of(tmp_path) == holder


def test_nobody_is_told_of(tmp_path):
    assert holder_of(tmp_path) is None
    assert not seen_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_holder_tells_process_time_and_host(tmp_path):
    with held(tmp_path):
        found = holder_of(tmp_path)
        assert (found.pid, found.host, found.here) == (os.getpid(), socket.gethostname(), True)
        assert timedelta() <= datetime.now(UTC) - found.since < timedelta(minutes=1)
        assert str(found) == f"process {os.getpid()}"
    assert holder_of(tmp_path) is None


def test_the_process_of_another_machine_is_named_with_it(tmp_path):
    with held(tmp_path):
        (tmp_path / "run.pid").write_text("12 2026-03-04T05:06:07+00:00 node7\n")
        with pytest.raises(StoreError, match="process 12 on node7 is working"), held(tmp_path):
            pytest.fail("two holders")


def test_a_look_changes_nothing_and_is_no_hindrance(tmp_path):
    with held(tmp_path):
        lock = tmp_path / "run.lock"
        os.utime(lock, (1, 1))
        before = lock.stat()
        assert seen_held(tmp_path)
        assert lock.stat() == before
    assert not seen_held(tmp_path)
    with held(tmp_path):  # the look gave back what it took
        pass


def test_the_lock_of_a_killed_process_is_not_held(tmp_path):
    code = (
        "import sys; from pathlib import Path; from skipdit_cli.storage.lock import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout.readline() == b"held\n"
        assert seen_held(tmp_path)
    finally:
        process.kill()
        process.communicate()
    assert holder_of(tmp_path).pid == process.pid  # it could not tidy up
    assert not seen_held(tmp_path)
