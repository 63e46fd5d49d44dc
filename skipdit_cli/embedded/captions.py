"""Captions of the embedded text models, and what they ask for."""

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIRECTIONS = {"to the right": (0, 1), "to the left": (0, -1), "down": (1, 0), "up": (-1, 0)}
VIDEO = tuple(f"a {word} moving {direction}" for word in WORDS for direction in DIRECTIONS)
IMAGE = tuple(
    form.format(word) for word in WORDS for form in ("a {}", "the digit {}", "a handwritten {}")
)
LISTS = {"t2v": VIDEO, "t2i": IMAGE}  # by task


def digit(caption: str) -> int | None:
    """The digit that a caption names, or None."""
    return next((WORDS.index(word) for word in caption.lower().split() if word in WORDS), None)


def direction(caption: str) -> tuple[int, int] | None:
    """The (row, column) direction that a caption names, or None."""
    text = caption.lower()
    return next((step for words, step in DIRECTIONS.items() if text.endswith(words)), None)
