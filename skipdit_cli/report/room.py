"""Where a label beside a marker covers nothing."""

from collections.abc import Sequence

Spot = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom; y goes down
PLACES = (  # of a label, in the order in which they are tried: (anchor, height)
    ("start", -1),
    ("start", 1),
    ("end", -1),
    ("end", 1),
    ("middle", -1),
    ("middle", 1),
    ("start", 0),
    ("end", 0),
)


def room(
    at: Spot, size: Spot, *, gap: float, inside: Box, taken: Sequence[Box]
) -> tuple[str, Box] | None:
    """A place beside a marker that is free; None if none is.

    Args:
        at: the middle of the marker.
        size: width and height of the label.
        gap: from the middle of the marker to the label.
        inside: where labels may be.
        taken: what has to stay free of them.
    Returns:
        Which part of the label is nearest to the marker ("start", "middle", "end"), and its box.
    """
    (x, y), (width, height) = at, size
    for anchor, side in PLACES:
        left = {"start": x + gap, "middle": x - width / 2, "end": x - gap - width}[anchor]
        away = gap if anchor == "middle" else gap / 2
        top = {-1: y - away - height, 0: y - height / 2, 1: y + away}[side]
        box = (left, top, left + width, top + height)
        within = inside[0] <= box[0] and inside[1] <= box[1]
        within = within and box[2] <= inside[2] and box[3] <= inside[3]
        if within and not any(_overlap(box, other) for other in taken):
            return anchor, box
    return None


def _overlap(one: Box, other: Box) -> bool:
    apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    return not apart
