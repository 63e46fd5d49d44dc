"""The grid shows the samples themselves: enlarged without smoothing, in their place."""

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.report import grid
from skipdit_cli.report.grid import GridColumn

RANDOM = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, size=(*shape, 3), dtype=np.uint8)


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def places(picture: np.ndarray, part: np.ndarray) -> list[tuple[int, int]]:
    """Every (top, left) at which a picture holds this part exactly."""
    height, width, _ = part.shape
    corner = (picture == part[0, 0]).all(axis=-1)
    return [
        (top, left)
        for top, left in np.argwhere(corner[: -height + 1, : -width + 1]).tolist()
        if (picture[top : top + height, left : left + width] == part).all()
    ]


def test_a_small_image_is_enlarged_by_a_whole_factor():
    sample = random(16, 16)
    cell = np.asarray(grid.cell(sample))
    assert cell.shape == (128, 128, 3)
    assert (cell == np.kron(sample, np.ones((8, 8, 1), np.uint8))).all()


def test_a_large_image_is_left_alone():
    sample = random(256, 200)
    assert (np.asarray(grid.cell(sample)) == sample).all()


def test_a_clip_shows_evenly_spaced_frames_side_by_side():
    clip = random(8, 16, 16)
    cell = np.asarray(grid.cell(clip))
    assert cell.shape == (64, 4 * 64 + 3 * grid.FRAME_GAP, 3)
    for i, frame in enumerate((0, 2, 5, 7)):
        left = i * (64 + grid.FRAME_GAP)
        assert (cell[::4, left : left + 64 : 4] == clip[frame]).all()


@pytest.mark.parametrize(
    ("length", "frames", "shown"),
    [(16, 4, [0, 5, 10, 15]), (3, 4, [0, 1, 2]), (1, 4, [0]), (8, 1, [0]), (8, 2, [0, 7])],
)
def test_picked_frames(length, frames, shown):
    assert grid.picked(length, frames) == shown


def test_rows_are_samples_and_columns_are_runs(tmp_path):
    reference = [random(16, 16) for _ in range(2)]
    cached = [random(16, 16) for _ in range(2)]
    columns = [GridColumn("uncached", "", reference), GridColumn("n=2", "30.00 dB", cached)]
    path = grid.grid(columns, tmp_path / "new" / "grid.png", rows=["3", "5"], title="digits")
    picture = pixels(path)
    found = [
        [places(picture, np.asarray(grid.cell(sample))) for sample in column.samples]
        for column in columns
    ]
    assert [[len(each) for each in column] for column in found] == [[1, 1], [1, 1]]
    (first, second), (other, _) = ([each[0] for each in column] for column in found)
    step = 128 + grid.GAP
    assert second == (first[0] + step, first[1])
    assert other == (first[0], first[1] + step)
    right, bottom = other[1] + 128 + grid.MARGIN, second[0] + 128 + grid.MARGIN
    assert picture.shape == (bottom, right, 3)


def test_texts_stand_above_their_column_and_beside_their_row(tmp_path):
    samples = [np.full((128, 128, 3), 200, np.uint8)]

    def draw(title: str, subtitle: str, row: str) -> np.ndarray:
        columns = [GridColumn("uncached", "", samples), GridColumn(title, subtitle, samples)]
        return pixels(grid.grid(columns, tmp_path / "g.png", rows=[row]))

    plain = draw("n=2", "30.00 dB", "3")
    (top, left), (_, second) = places(plain, samples[0])
    for changed, area in (
        (draw("n=4", "30.00 dB", "3"), (slice(None, top), slice(second, None))),
        (draw("n=2", "26.00 dB", "3"), (slice(None, top), slice(second, None))),
        (draw("n=2", "30.00 dB", "7"), (slice(top, None), slice(None, left))),
    ):
        differs = (plain != changed).any(axis=-1)
        assert differs[area].any()
        differs[area] = False
        assert not differs.any()


def test_a_wide_heading_widens_its_column_and_a_wide_title_the_picture(tmp_path):
    samples = [random(128, 128)]
    title = "a heading that is clearly wider than the picture below it"
    columns = [GridColumn(title, "", samples), GridColumn("n=2", "", [random(128, 128)])]
    picture = pixels(grid.grid(columns, tmp_path / "g.png", rows=[""]))
    ((_, left),) = places(picture, np.asarray(grid.cell(samples[0])))
    ((_, second),) = places(picture, np.asarray(grid.cell(columns[1].samples[0])))
    assert second - left > 300
    titled = pixels(grid.grid(columns, tmp_path / "g.png", rows=[""], title=title * 3))
    assert titled.shape[1] > picture.shape[1]
    assert (titled[:, -grid.MARGIN :] == 255).all()


def test_many_runs_make_bands_that_each_begin_with_the_reference(tmp_path):
    samples = [random(128, 128) for _ in range(9)]
    columns = [GridColumn(str(i), "", [sample]) for i, sample in enumerate(samples)]
    picture = pixels(grid.grid(columns, tmp_path / "a.png", rows=["#0"]))
    (first, second), *none = [places(picture, samples[0])]
    assert not none
    assert first[0] < second[0]
    assert first[1] == second[1]
    for i, sample in enumerate(samples[1:], start=1):
        ((top, left),) = places(picture, sample)
        assert top == (first if i < grid.ACROSS else second)[0]
        assert left > first[1]
