"""The folder of a worker that does not see the results folder, and those that killed ones left."""

import os
import tempfile
import time

from skipdit_cli.generate import batch


def test_what_killed_processes_left_goes_and_what_is_in_use_stays(tmp_path, monkeypatch):
    closing = []
    monkeypatch.setattr(batch.atexit, "register", closing.append)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    used = batch._scratch.__wrapped__()
    left, fresh, foreign = (
        tmp_path / name
        for name in (f"{batch.SCRATCH}left", f"{batch.SCRATCH}fresh", "skipdit-mine")
    )
    for folder in (left, fresh, foreign):
        folder.mkdir()
        (folder / "run.lock").touch()
    old = time.time() - batch.NEW - 60
    for folder in (used, left, foreign):
        os.utime(folder, (old, old))
    own = batch._scratch.__wrapped__()
    assert {*tmp_path.iterdir()} == {used, own, fresh, foreign}  # a fresh one may not be held yet
    for close in closing:
        close()
    assert {*tmp_path.iterdir()} == {fresh, foreign}
