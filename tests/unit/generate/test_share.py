"""Tasks are shared out once each; workers that die or never start take none along."""

from collections import Counter
from concurrent.futures import Future

import pytest

from skipdit_cli.errors import SkipditError, StoreError
from skipdit_cli.generate import engine
from skipdit_cli.generate.worker import Ended, Task


class DiedError(Exception):
    pass


class Fake:
    """A worker in this process: what it was given has ended when it is asked the next time.

    Args:
        dies: called with a task, whether it costs the worker its life.
        starts: of those to come, how many fail; None for one that never starts.
    """

    def __init__(self, dies=lambda task: False, *, starts=0, error=lambda task: None):
        self.dies, self.starts, self.error = dies, starts, error
        self.begun, self.given, self.lives = [], [], 0

    def start(self):
        self.lives += 1
        self.begun, started = [], Future()
        if self.starts is None:
            return started
        if self.starts:
            self.starts -= 1
            started.set_exception(DiedError("Traceback\nit is not there"))
        else:
            started.set_result(None)
        return started

    def submit(self, number, task):
        self.given.append(task and task.batch[0])
        answer = Future()
        if task and self.dies(task):
            answer.set_exception(DiedError())
            return answer
        ended, self.begun = self.begun, [(number, task)] if task else []
        answer.set_result([Ended(n, [t.batch[0]], self.error(t)) for n, t in ended])
        return answer

    def died(self, error):
        return isinstance(error, DiedError)


def shared(workers, count, *, on_failed=None):
    """The batches done, and those that failed with what."""
    done, failed = [], []

    def ended(task, given):
        assert given == task.batch  # what a task gave comes with it
        done.append(task.batch[0])

    engine.share(
        workers,
        iter([Task(print, [i]) for i in range(count)]),
        on_done=ended,
        on_failed=on_failed or (lambda task, error: failed.append((task.batch[0], str(error)))),
        died=lambda: SkipditError("workers died", fix="run it again"),
    )
    return done, failed


def test_every_task_is_done_once_and_both_workers_take_part():
    workers = [Fake(), Fake()]
    done, failed = shared(workers, 7)
    assert (sorted(done), failed) == ([*range(7)], [])
    given = [[i for i in each.given if i is not None] for each in workers]
    assert sorted(given[0] + given[1]) == [*range(7)]
    assert all(len(each) >= 3 for each in given)


@pytest.mark.parametrize(("lives", "expected"), [(1, []), (2, []), (3, [4])])
def test_a_task_that_costs_lives_is_tried_three_times(lives, expected):
    """And what its worker had computed before, and not told of, is done again by others."""
    cost = Counter()

    def dies(task):
        cost[task.batch[0]] += task.batch == [4]
        return task.batch == [4] and cost[4] <= lives

    workers = [Fake(dies), Fake(dies)]
    done, failed = shared(workers, 8)
    assert sorted(done) == [i for i in range(8) if i not in expected]
    assert failed == [(i, "workers died; run it again") for i in expected]
    assert cost[4] == min(lives + 1, 3)
    assert sum(each.lives for each in workers) == 2 + lives


def test_a_task_that_others_need_comes_before_new_ones():
    cost = Counter()

    def dies(task):
        cost[task.batch[0]] += 1
        return task.batch == [0] and cost[0] == 1

    (worker,) = workers = [Fake(dies)]
    assert shared(workers, 3) == ([0, 1, 2], [])
    assert worker.given[:2] == [0, 0]


def test_a_worker_that_never_starts_is_not_waited_for_in_the_end():
    assert shared([Fake(starts=None), Fake()], 4) == ([0, 1, 2, 3], [])


def test_that_none_has_started_is_told(monkeypatch):
    monkeypatch.setattr(engine, "PATIENCE", 0.05)
    worker, told = Fake(starts=None), []
    monkeypatch.setattr(worker, "start", lambda: waits)
    waits = Future()

    def warn(*given, **how):
        told.append(given)
        waits.set_result(None)

    monkeypatch.setattr(engine, "warn", warn)
    assert shared([worker], 2) == ([0, 1], [])
    assert told == [("none of 1 workers has started within 0.05 s",)]


@pytest.mark.parametrize(("starts", "works"), [(2, True), (3, False)])
def test_a_worker_that_cannot_start_is_given_up(starts, works):
    if works:
        assert shared([Fake(starts=starts)], 2) == ([0, 1], [])
        return
    with pytest.raises(SkipditError, match="a worker does not start: it is not there; see that"):
        shared([Fake(starts=starts)], 2)


def test_after_an_error_that_ends_it_nothing_is_begun_and_the_rest_is_told():
    seen = []

    def failed(task, error):
        seen.append(task.batch[0])
        raise error

    workers = [Fake(error=lambda task: StoreError("full") if task.batch == [2] else None)]
    with pytest.raises(StoreError, match="full"):
        shared(workers, 9, on_failed=failed)
    assert seen == [2]
    assert [i for i in workers[0].given if i is not None] == [0, 1, 2, 3]


def test_an_error_of_one_task_leaves_the_others():
    error = SkipditError("not finite")
    workers = [Fake(error=lambda task: error if task.batch == [1] else None), Fake()]
    done, failed = shared(workers, 4)
    assert sorted([*done, *(i for i, _ in failed)]) == [0, 1, 2, 3]
    assert {why for _, why in failed} <= {"not finite"}


def test_what_goes_wrong_with_the_tasks_themselves_is_raised_and_what_was_begun_is_told():
    done = []

    def tasks():
        yield Task(print, [0])
        yield Task(print, [1])
        raise StoreError("no space left")

    with pytest.raises(StoreError, match="no space left"):
        engine.share(
            [Fake()],
            tasks(),
            on_done=lambda task, given: done.append(task.batch[0]),
            on_failed=lambda task, error: pytest.fail(str(error)),
            died=SkipditError,
        )
    assert done == [0, 1]
