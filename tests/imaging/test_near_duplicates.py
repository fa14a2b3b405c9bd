import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.imaging import duplicate_candidates
from crack_pipeline.imaging.near_duplicates import (
    FINGERPRINT_SIZE,
    THUMBNAIL_SIZE,
    find_groups,
    fingerprint,
)

SIDE = 240
seeds = st.integers(0, 10_000)


def render_wall(seed, height=SIDE, width=SIDE, octaves=(2, 4, 8, 16)):
    """A texture of several octaves, as concrete has."""
    rng = np.random.default_rng(seed)
    wall = np.zeros((height, width))
    for octave in octaves:
        wall += cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), octave) * octave
    wall = 130 + 18 * wall / wall.std()
    return np.clip(np.rint(wall), 0, 255).astype(np.uint8)


def shrink(image):
    image = np.ascontiguousarray(image)
    return cv2.resize(image, (THUMBNAIL_SIZE, THUMBNAIL_SIZE), interpolation=cv2.INTER_AREA)


def group(images, **options):
    return find_groups(fingerprint(np.stack([shrink(image) for image in images])), **options)


def orient(image, orientation):
    image = np.rot90(image, orientation % 4)
    return image[:, ::-1] if orientation >= 4 else image


def compress(image, quality=40):
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(image), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


def brighten(image, factor):
    return np.clip(np.rint(image * factor), 0, 255).astype(np.uint8)


others = [render_wall(seed) for seed in range(20_000, 20_030)]


@settings(max_examples=25)
@given(seed=seeds, orientation=st.integers(1, 7))
def test_flips_and_turns_are_joined_to_their_original(seed, orientation):
    wall = render_wall(seed)
    assert list(group([*others, wall, orient(wall, orientation)])) == [*range(30), 30, 30]


@settings(max_examples=25)
@given(
    seed=seeds,
    orientation=st.integers(0, 7),
    y=st.floats(0, 0.05),
    x=st.floats(0, 0.05),
    scale=st.floats(0.95, 1),
)
def test_a_crop_of_the_same_place_is_joined_to_its_original(seed, orientation, y, x, scale):
    wall = render_wall(seed, 300, 300)
    side = round(SIDE * scale)
    top, left = round(y * SIDE), round(x * SIDE)
    crop = wall[top : top + side, left : left + side]
    assert list(group([*others, wall[:SIDE, :SIDE], orient(crop, orientation)])) == [*range(30), 30, 30]


@pytest.mark.parametrize("seed", range(8))
def test_an_enlarged_crop_of_fine_grain_is_joined_to_its_original(seed):
    wall = render_wall(seed, octaves=(1.5, 3))
    assert list(group([*others, wall, wall[12:, :228]])) == [*range(30), 30, 30]


@settings(max_examples=25)
@given(seed=seeds, factor=st.floats(0.9, 1.1), quality=st.integers(40, 95), orientation=st.integers(0, 7))
def test_brightness_and_compression_do_not_matter(seed, factor, quality, orientation):
    wall = render_wall(seed)
    copy = orient(compress(brighten(wall, factor), quality), orientation)
    assert list(group([*others, wall, copy])) == [*range(30), 30, 30]


def test_a_quarter_turn_of_an_oblong_photograph_is_recognised():
    wall = render_wall(1, 200, 300)
    assert list(group([wall, np.rot90(wall)])) == [0, 0]


def test_different_places_stay_apart():
    walls = [render_wall(seed) for seed in range(150)]
    np.testing.assert_array_equal(group(walls), np.arange(150))


def test_different_walls_with_the_same_dark_crack_stay_apart():
    walls = [render_wall(seed) for seed in range(30)]
    for number, wall in enumerate(walls):
        path = np.array([[0, 60], [90, 110 + number % 3], [150, 100], [239, 170]])
        cv2.polylines(wall, [path.astype(np.int32)], False, 25, 14)
    np.testing.assert_array_equal(group(walls, candidate_similarity=0.1), np.arange(30))


def test_different_walls_behind_the_same_large_sign_stay_apart():
    walls = [render_wall(seed) for seed in range(20)]
    sign = render_wall(99)
    for wall in walls:
        wall[:126] = sign[:126]
    np.testing.assert_array_equal(group(walls, candidate_similarity=0.1, minimum_similarity=0.5), np.arange(20))


def test_the_same_light_on_different_smooth_walls_does_not_join_them():
    rng = np.random.default_rng(0)
    light = np.linspace(60, 220, SIDE)[:, None] + np.linspace(0, 30, SIDE)
    walls = [np.clip(light + rng.normal(0, 8, (SIDE, SIDE)), 0, 255).astype(np.uint8) for _ in range(30)]
    np.testing.assert_array_equal(group(walls), np.arange(30))


def test_images_without_texture_are_joined_only_where_they_are_identical():
    flat = [np.full((SIDE, SIDE), grey, np.uint8) for grey in (0, 128, 128, 141, 255, 255)]
    gradient = np.broadcast_to(np.linspace(0, 200, SIDE).astype(np.uint8), (SIDE, SIDE))
    assert list(group([*flat, gradient, brighten(gradient, 0.7)])) == [0, 1, 1, 3, 4, 4, 6, 7]


def test_groups_are_connected_components_named_by_their_first_image():
    wall = render_wall(3, 400, 400)
    windows = [wall[start : start + SIDE, start : start + SIDE] for start in (0, 10, 20, 30, 40)]
    far = windows[-1]
    assert list(group([windows[0], *others, far]))[-1] == 31  # too far apart for themselves
    assert list(group([others[0], *windows])) == [0, 1, 1, 1, 1, 1]


def test_copies_beyond_the_number_of_candidates_are_joined_through_each_other():
    wall = render_wall(4)
    copies = [compress(brighten(wall, 0.9 + 0.005 * number), 60 + number) for number in range(40)]
    assert set(group([*copies, *others], candidates_per_image=2, shortlist=4)[:40]) == {0}


@settings(max_examples=15)
@given(order=st.permutations(range(24)))
def test_the_order_of_the_rows_changes_only_the_names(order):
    walls = [render_wall(seed) for seed in range(12)]
    images = walls + [compress(orient(wall, number % 8)) for number, wall in enumerate(walls)]
    expected = group(images)
    shuffled = group([images[number] for number in order])
    np.testing.assert_array_equal(
        shuffled[:, None] == shuffled[None, :], (expected[:, None] == expected[None, :])[np.ix_(order, order)]
    )
    assert all(shuffled[name] == name <= number for number, name in enumerate(shuffled))


@settings(max_examples=10)
@given(start=st.integers(0, 20), stop=st.integers(21, 100))
def test_a_fingerprint_depends_on_its_own_thumbnail_only(start, stop):
    thumbnails = np.random.default_rng(0).integers(0, 256, (100, 64, 64), np.uint8)
    np.testing.assert_array_equal(fingerprint(thumbnails[start:stop]), fingerprint(thumbnails)[start:stop])


def test_blocks_and_threads_do_not_change_the_groups(monkeypatch):
    walls = [render_wall(seed, 80, 80) for seed in range(60)]
    fingerprints = fingerprint(np.stack([shrink(wall) for wall in [*walls, *(wall[::-1] for wall in walls)]]))
    expected = find_groups(fingerprints, workers=1)
    assert len(np.unique(expected)) == 60
    monkeypatch.setattr(duplicate_candidates, "_BLOCK", 7)
    monkeypatch.setattr(duplicate_candidates, "_BATCH", 5)
    np.testing.assert_array_equal(find_groups(fingerprints, workers=3), expected)


def test_fingerprints_may_lie_in_a_file_or_behind_take(tmp_path):
    walls = [render_wall(seed) for seed in range(5)]
    fingerprints = fingerprint(np.stack([shrink(wall) for wall in [*walls, *walls]]))
    np.save(tmp_path / "fingerprints.npy", fingerprints)

    class Stack:
        shape = fingerprints.shape

        def take(self, rows):
            return fingerprints[rows]

    expected = [0, 1, 2, 3, 4] * 2
    assert list(find_groups(np.load(tmp_path / "fingerprints.npy", mmap_mode="r"))) == expected
    assert list(find_groups(Stack())) == expected


def test_none_and_one_image():
    none = fingerprint(np.empty((0, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8))
    assert none.shape == (0, FINGERPRINT_SIZE)
    assert find_groups(none).shape == (0,)
    assert find_groups(none).dtype == np.int64
    assert list(group([render_wall(0)])) == [0]


def test_candidates_say_in_which_orientation_the_images_agree():
    walls = np.stack([shrink(render_wall(seed)) for seed in range(8)])
    turned = duplicate_candidates.turn(walls.view(np.int8), np.arange(8)).view(np.uint8)
    coarse = fingerprint(np.concatenate([walls, turned]))[:, 8 : 8 + 256].view(np.int8).reshape(-1, 16, 16)
    pairs = duplicate_candidates.find_candidates(coarse, minimum=0.95, shortlist=64, per_image=5, workers=1)
    assert list(pairs.first) == list(range(8))
    assert list(pairs.second) == list(range(8, 16))
    assert list(pairs.orientation) == list(range(8))


@pytest.mark.parametrize(
    ("thumbnails", "message"),
    [
        (np.zeros((2, 32, 32), np.uint8), r"\(2, 32, 32\); squash"),
        (np.zeros((2, 64, 64), np.float32), "got float32"),
        (np.zeros((64, 64), np.uint8), r"\(64, 64\)"),
    ],
)
def test_wrong_thumbnails_are_refused(thumbnails, message):
    with pytest.raises(ValueError, match=message):
        fingerprint(thumbnails)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimum_similarity": 0}, "minimum_similarity must be above 0 and at most 1, got 0"),
        ({"minimum_similarity": 1.5}, "got 1.5"),
        ({"candidate_similarity": 1.0}, "candidate_similarity must lie between 0 and 1, got 1.0"),
        ({"shortlist": 0}, "shortlist must be at least 1, got 0"),
        ({"candidates_per_image": -1}, "candidates_per_image must be at least 1, got -1"),
        ({"workers": 0}, "workers must be at least 1, or None"),
    ],
)
def test_wrong_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        find_groups(np.zeros((2, FINGERPRINT_SIZE), np.uint8), **options)


@pytest.mark.parametrize("wrong", [np.zeros((3, 7), np.uint8), np.zeros((3, FINGERPRINT_SIZE), np.int16)])
def test_wrong_fingerprints_are_refused(wrong):
    with pytest.raises(ValueError, match="make them with fingerprint"):
        find_groups(wrong)
