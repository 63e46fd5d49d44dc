"""What is left of a batch is done beside the next one: in order, bounded, and nothing is lost."""

import threading

import pytest

from skipdit_cli.errors import StoreError
from skipdit_cli.generate import behind, engine
from skipdit_cli.generate.local import Local

BATCHES = [[i] for i in range(6)]
LONG = 120  # seconds until a test that waits in vain fails


def run_batches(work, batches, *, on_done=None):
    engine.run_batches(work, batches, engine=Local(), on_done=on_done)


class Steps:
    """A work of two steps per batch that notes what happens; what is to be waited for is set."""

    def __init__(self):
        self.seen, self.going, self.computed = [], threading.Event(), threading.Semaphore(0)

    def work(self, batch):
        self.seen.append(("computed", *batch))
        self.computed.release()
        return self.steps(batch)

    def steps(self, batch):
        for part in "ab":
            assert self.going.wait(LONG)
            self.seen.append((part, *batch))
            yield

    def done(self, batch):
        self.seen.append(("done", *batch))

    def only(self, *kinds):
        return [each for each in self.seen if each[0] in kinds]


def test_what_is_left_of_a_batch_is_done_while_the_next_is_computed():
    """Its steps wait until the second batch was computed, which they could not before it."""
    steps = Steps()

    def work(batch):
        if batch == [1]:
            steps.going.set()
        return steps.work(batch)

    run_batches(work, BATCHES, on_done=steps.done)
    assert steps.seen.index(("computed", 1)) < steps.seen.index(("a", 0))
    assert steps.only("computed") == [("computed", i) for i in range(6)]
    assert steps.only("a", "b", "done") == [(k, i) for i in range(6) for k in ("a", "b", "done")]


def test_no_more_batches_wait_than_memory_is_meant_for():
    steps = Steps()
    thread = threading.Thread(target=run_batches, args=(steps.work, BATCHES), daemon=True)
    thread.start()
    most = 2 + behind.WAITING  # one that is being written, those that wait, one that is computed
    for _ in range(most):
        assert steps.computed.acquire(timeout=LONG)
    assert not steps.computed.acquire(timeout=0.2)
    steps.going.set()
    thread.join(LONG)
    assert steps.only("b") == [("b", i) for i in range(6)]


def test_a_step_that_fails_is_told_and_begins_no_further_batch():
    steps, failed = Steps(), threading.Event()
    steps.going.set()

    def full():
        failed.set()
        raise StoreError("no space left on device")
        yield

    def work(batch):
        left = steps.work(batch)
        if batch == [2]:
            assert failed.wait(LONG)
        return full() if batch == [1] else left

    with pytest.raises(StoreError, match="no space left"):
        run_batches(work, BATCHES, on_done=steps.done)
    assert 2 <= len(steps.only("computed")) <= 4
    finished = [i for _, i in steps.only("done")]
    assert finished == [i for _, i in steps.only("computed") if i != 1]  # and all others are kept


def test_a_batch_that_cannot_be_computed_takes_none_along_that_can():
    steps = Steps()
    steps.going.set()

    def work(batch):
        if batch == [2]:
            raise ValueError("2")
        return steps.work(batch)

    with pytest.raises(ValueError, match="2"):
        run_batches(work, BATCHES, on_done=steps.done)
    assert steps.only("done") == [("done", 0), ("done", 1)]


def test_after_ctrl_c_the_step_at_hand_is_finished_and_none_is_begun():
    steps, at_hand = Steps(), threading.Event()

    def slow(batch):
        at_hand.set()
        assert steps.going.wait(LONG)
        steps.seen.append(("a", *batch))
        yield
        steps.seen.append(("b", *batch))
        yield

    def work(batch):
        if batch == [1]:
            assert at_hand.wait(LONG)
            threading.Timer(0.1, steps.going.set).start()
            raise KeyboardInterrupt
        return slow(batch)

    with pytest.raises(KeyboardInterrupt):
        run_batches(work, BATCHES, on_done=steps.done)
    assert steps.seen == [("a", 0)]
    assert not [t for t in threading.enumerate() if t.name.startswith("Thread") and t.daemon]


def test_what_was_shown_of_a_batch_that_fails_ends_it_too():
    """An error of `on_done`, in the thread, is none that is lost."""

    def gone(batch):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        run_batches(lambda batch: iter(()), BATCHES, on_done=gone)
