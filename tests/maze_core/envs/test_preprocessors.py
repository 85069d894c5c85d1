"""Pre-processors against slow references and by hand: shapes, spaces, numbers to the bit, and what they refuse."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from maze_core.envs.preprocessors import (
    FlattenPreProcessor,
    OneHotPreProcessor,
    ResizeImgPreProcessor,
    Rgb2GrayPreProcessor,
    TransposePreProcessor,
    UnSqueezePreProcessor,
)
from maze_core.errors import EnvError

NAME = {"observation": "observation"}
PICTURE = spaces.Box(0, 255, (10, 7, 3), np.uint8)
RNG = np.random.default_rng(0)
EACH = [
    (FlattenPreProcessor(**NAME), PICTURE),
    (FlattenPreProcessor(**NAME, num_flatten_dims=2), PICTURE),
    (UnSqueezePreProcessor(**NAME, dim=-4), PICTURE),
    (UnSqueezePreProcessor(**NAME, dim=0), PICTURE),
    (TransposePreProcessor(**NAME, axes=[2, 0, 1]), PICTURE),
    (OneHotPreProcessor(**NAME), spaces.Discrete(5, start=-2)),
    (OneHotPreProcessor(**NAME), spaces.MultiDiscrete([3, 4], start=[1, 0])),
    (OneHotPreProcessor(**NAME), spaces.Box(-1, 6, (2, 3), np.int32)),
    (Rgb2GrayPreProcessor(**NAME), PICTURE),
    (Rgb2GrayPreProcessor(**NAME, rgb_dim=0), spaces.Box(-1.0, 1.0, (3, 4, 5), np.float32)),
    (ResizeImgPreProcessor(**NAME, target_size=[4, 9]), PICTURE),
    (ResizeImgPreProcessor(**NAME, target_size=[5, 5]), spaces.Box(-1.0, 1.0, (11, 3), np.float64)),
    (
        ResizeImgPreProcessor(**NAME, target_size=[5, 5], transpose=True),
        spaces.Box(0, 9, (2, 8, 6), np.int16),
    ),
]


def batch_of(space, n_rows):
    return np.stack([np.asarray(space.sample()) for _ in range(n_rows)])


@pytest.mark.parametrize(("processor", "space"), EACH)
def test_what_comes_out_lies_in_the_space_that_is_told(processor, space):
    space.seed(1)
    processed_space = processor.processed_space(space)
    processed = processor.process(batch_of(space, 4))
    assert all(processed_space.contains(row) for row in processed)


@pytest.mark.parametrize(("processor", "space"), EACH)
def test_the_bits_of_a_row_do_not_depend_on_the_batch(processor, space):
    space.seed(2)
    processor.processed_space(space)
    rows = batch_of(space, 9)
    kept, together = rows.copy(), processor.process(rows)
    alone = np.concatenate([processor.process(rows[i : i + 1]) for i in range(9)])
    assert together.tobytes() == alone.tobytes()
    assert together.dtype == alone.dtype
    np.testing.assert_array_equal(rows, kept)


@pytest.mark.parametrize(
    ("processor", "shape", "expected"),
    [
        (FlattenPreProcessor(**NAME), (10, 7, 3), (210,)),
        (FlattenPreProcessor(**NAME, num_flatten_dims=2), (10, 7, 3), (10, 21)),
        (FlattenPreProcessor(**NAME, num_flatten_dims=1), (10, 7, 3), (10, 7, 3)),
        (UnSqueezePreProcessor(**NAME), (10, 7), (1, 10, 7)),
        (UnSqueezePreProcessor(**NAME, dim=0), (10, 7), (1, 10, 7)),
        (UnSqueezePreProcessor(**NAME, dim=-1), (10, 7), (10, 7, 1)),
        (UnSqueezePreProcessor(**NAME, dim=1), (10, 7), (10, 1, 7)),
        (TransposePreProcessor(**NAME, axes=[2, 0, 1]), (10, 7, 3), (3, 10, 7)),
    ],
)
def test_shapes_change_and_numbers_stay(processor, shape, expected):
    values = RNG.integers(0, 255, (2, *shape), dtype=np.uint8)
    processed = processor.process(values)
    assert processed.shape == (2, *expected)
    assert sorted(processed.ravel()) == sorted(values.ravel())
    assert processor.processed_space(spaces.Box(0, 255, shape, np.uint8)).shape == expected


def test_transposing_moves_axes():
    values = RNG.integers(0, 255, (2, 3, 4, 5), dtype=np.uint8)
    np.testing.assert_array_equal(
        TransposePreProcessor(**NAME, axes=[2, 0, 1]).process(values), values.transpose(0, 3, 1, 2)
    )


@pytest.mark.parametrize(
    ("space", "value", "expected"),
    [
        (spaces.Discrete(3), np.int64(2), [0, 0, 1]),
        (spaces.Discrete(3, start=-1), np.int64(-1), [1, 0, 0]),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), [[0, 1, 0], [0, 0, 1]]),
        (spaces.Box(1, 3, (2,), np.int64), np.array([3, 1]), [[0, 0, 1], [1, 0, 0]]),
    ],
)
def test_whole_numbers_become_indicators(space, value, expected):
    processor = OneHotPreProcessor(**NAME)
    assert processor.processed_space(space).shape == np.shape(expected)
    (row,) = processor.process(value[None])
    assert row.tolist() == expected
    assert row.dtype == np.float32


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_grey_is_the_nearest_whole_luma(red, green, blue):
    pixel = np.uint8([[[[red, green, blue]]]])
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    grey = Rgb2GrayPreProcessor(**NAME).process(pixel)
    assert abs(int(grey[0, 0, 0]) - luma) <= 0.5 + 1e-9
    floats = Rgb2GrayPreProcessor(**NAME).process(pixel.astype(np.float64))
    np.testing.assert_allclose(floats[0, 0, 0], luma)


def triangle_reference(picture, height, width):
    """Pixel by pixel: the mean of the pixels around, weighted by nearness; the reach grows as the picture shrinks."""
    out = np.zeros((height, width))
    for axis, size in ((0, height), (1, width)):
        old = picture.shape[axis]
        scale, weights = old / size, []
        for i in range(size):
            centre = (i + 0.5) * scale
            near = [max(0.0, 1 - abs(j + 0.5 - centre) / max(scale, 1)) for j in range(old)]
            weights.append([w / sum(near) for w in near])
        picture = np.tensordot(np.array(weights), picture, (1, axis))
        picture = picture if axis == 0 else picture.T
    out[...] = picture
    return out


@pytest.mark.parametrize("size", [(10, 7), (3, 3), (17, 20), (1, 1), (10, 2)])
def test_resizing_is_the_widening_triangle_filter(size):
    picture = RNG.uniform(-3, 5, (10, 7))
    resized = ResizeImgPreProcessor(**NAME, target_size=size).process(picture[None])
    np.testing.assert_allclose(resized[0], triangle_reference(picture, *size), rtol=1e-12, atol=1e-12)


def test_resizing_to_the_same_size_changes_nothing():
    pictures = RNG.integers(0, 256, (3, 12, 9, 3), dtype=np.uint8)
    same = ResizeImgPreProcessor(**NAME, target_size=[12, 9]).process(pictures)
    assert same.tobytes() == pictures.tobytes()


def test_resized_whole_numbers_are_within_one_of_pillows():
    image = pytest.importorskip("PIL.Image")
    picture = RNG.integers(0, 256, (50, 40, 3), dtype=np.uint8)
    ours = ResizeImgPreProcessor(**NAME, target_size=[21, 17]).process(picture[None])[0]
    theirs = np.asarray(image.fromarray(picture).resize((17, 21), image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_channels_first_and_last_are_the_same_picture():
    picture = RNG.integers(0, 256, (2, 9, 8, 3), dtype=np.uint8)
    last = ResizeImgPreProcessor(**NAME, target_size=[4, 5]).process(picture)
    first = ResizeImgPreProcessor(**NAME, target_size=[4, 5], transpose=True).process(
        picture.transpose(0, 3, 1, 2)
    )
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)


@pytest.mark.parametrize(
    ("processor", "space", "needs"),
    [
        (Rgb2GrayPreProcessor(**NAME), spaces.Box(-1, 1, (4,)), "at least 3 axes"),
        (Rgb2GrayPreProcessor(**NAME), spaces.Box(0, 1, (3, 4, 4)), "three colours at axis -1"),
        (Rgb2GrayPreProcessor(**NAME, rgb_dim=5), PICTURE, "three colours at axis 5"),
        (Rgb2GrayPreProcessor(**NAME, rgb_dim=-4), PICTURE, "three colours at axis -4"),
        (ResizeImgPreProcessor(**NAME, target_size=[2, 2]), spaces.Box(0, 1, (4,)), "at least 2 axes"),
        (
            ResizeImgPreProcessor(**NAME, target_size=[2, 2], transpose=True),
            spaces.Box(0, 1, (4, 4)),
            "at least 3",
        ),
        (ResizeImgPreProcessor(**NAME, target_size=[2, 2]), spaces.Box(0, 1, (4, 4, 3, 2)), "two or three"),
        (UnSqueezePreProcessor(**NAME, dim=-4), spaces.Box(0, 1, (4, 4)), "at least 3"),
        (UnSqueezePreProcessor(**NAME, dim=3), spaces.Box(0, 1, (4, 4)), "at least 3"),
        (TransposePreProcessor(**NAME, axes=[1, 0]), PICTURE, "a Box of 2 axes"),
        (FlattenPreProcessor(**NAME, num_flatten_dims=4), PICTURE, "at least 4"),
        (FlattenPreProcessor(**NAME), spaces.Discrete(3), "needs a Box;"),
        (OneHotPreProcessor(**NAME), spaces.Box(0.0, 1.0, (3,)), "Box of integers"),
        (OneHotPreProcessor(**NAME), spaces.Box(0, 4096, (3,), np.int32), "at most 4096"),
        (OneHotPreProcessor(**NAME), spaces.Discrete(4097), "at most 4096"),
        (OneHotPreProcessor(**NAME), spaces.MultiDiscrete([3, 4097]), "at most 4096"),
        (OneHotPreProcessor(**NAME), spaces.MultiBinary(3), "Discrete"),
    ],
)
def test_what_cannot_be_processed_is_refused_with_the_way_out(processor, space, needs):
    with pytest.raises(EnvError, match=needs) as refusal:
        processor.processed_space(space)
    assert "wrappers=vector_obs" in str(refusal.value)
    assert "'observation'" in str(refusal.value)


@pytest.mark.parametrize("axes", [[0, 0], [1, 2], []])
def test_axes_are_an_order(axes):
    with pytest.raises(ValueError, match="axes"):
        TransposePreProcessor(**NAME, axes=axes)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1)])
def test_a_grey_picture_is_told_that_it_needs_no_grey(shape):
    with pytest.raises(EnvError, match=r"grey already: leave it out.*UnSqueezePreProcessor adds it"):
        Rgb2GrayPreProcessor(**NAME).processed_space(spaces.Box(0, 1, shape))
