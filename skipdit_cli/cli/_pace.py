"""The time that is left of a stage, by the pace of what was done in it of late."""

import time
from collections import deque
from collections.abc import Callable

WINDOW = 32  # the pace is that of so many of the last pieces, as they are told
RESUMED = 20  # so many times as fast as a piece now are pieces that were there already


class Pace:
    """How long a stage will go on.

    What a resumed stage finds done is no work of it: neither what it begins with, nor pieces that
    are passed in no time before the first that has to be made.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            clock: seconds, from whenever.
        """
        self.clock = clock
        self.told: deque[tuple[int, float]] = deque(maxlen=WINDOW + 1)  # what was done when

    def left(self, done: int, total: int) -> str:
        """What to say of the time that is left; nothing where `seconds` knows none."""
        seconds = self.seconds(done, total)
        return "" if seconds is None else f"{span(seconds)} left"

    def seconds(self, done: int, total: int) -> float | None:
        """The time that is left; None before a pace is known, and at the end.

        Args:
            done: pieces that are finished, of so many in all.
        """
        now = self.clock()
        if self.told and done > self.told[-1][0]:
            (first, begun), (last, before) = self.told[0], self.told[-1]
            seconds = (now - before) / (done - last)
            if last > first and seconds > RESUMED * (before - begun) / (last - first):
                self.told.clear()
                self.told.append((last, before))
        if not self.told or done > self.told[-1][0]:
            self.told.append((done, now))
        first, begun = self.told[0]
        if not first < done < total:
            return None
        return (now - begun) / (done - first) * (total - done)


def span(seconds: float) -> str:
    """Seconds as people say them.

    >>> span(8), span(312), span(4000), span(200_000)
    ('8 s', '5 min', '1 h 07 min', '2 d 7 h')
    """
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"
