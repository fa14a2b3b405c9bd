import pytest
from hypothesis import given
from hypothesis import strategies as st

from crack_pipeline.imaging.scale import Optics, read_scales, resolve

PATHS = ["pier/a.jpg", "pier/b.jpg", "deck.jpg"]
HEADER = "path,millimetres_per_pixel,distance_m,focal_length_mm,sensor_width_mm\n"


def read(text, paths=PATHS):
    return read_scales(text.encode(), paths)


def test_a_photograph_has_the_scale_of_the_first_row_that_matches():
    found = read("path,millimetres_per_pixel\npier/b.jpg,0.5\npier/*,0.25\n")
    assert found == {"pier/a.jpg": 0.25, "pier/b.jpg": 0.5}


def test_brackets_are_part_of_a_name():
    paths = ["IMG[1].jpg", "IMG1.jpg"]
    assert read("path,millimetres_per_pixel\nIMG[1].jpg,0.5\nIMG1.jpg,2\n", paths) == {paths[0]: 0.5, paths[1]: 2}


def test_accents_match_however_they_are_written():
    assert read("path,millimetres_per_pixel\nüber.jpg,0.5\n", ["u\u0308ber.jpg"]) == {"u\u0308ber.jpg": 0.5}


def test_a_camera_and_a_distance_give_the_scale_whichever_way_the_photograph_stands():
    found = read(HEADER + "*,,2,24,36\n")
    optics = found["deck.jpg"]
    assert resolve(optics, 6000, 4000) == pytest.approx(2000 / 24 * 36 / 6000)
    assert resolve(optics, 4000, 6000) == resolve(optics, 6000, 4000)
    assert resolve(None, 10, 10) is None


def test_tables_of_spreadsheets_are_read():
    found = read_scales("\ufeffpath;millimetres_per_pixel\r\n deck.jpg ; 0,4\r\n;\r\n".encode(), PATHS)
    assert found == {"deck.jpg": 0.4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns none; it takes path"),
        ("file,millimetres_per_pixel\na,1\n", "has the columns file"),
        ("path,distance_m\ndeck.jpg,2\n", "or all of distance_m, focal_length_mm, sensor_width_mm"),
        ("path,millimetres_per_pixel\ndeck.jpg,0.3\nwall.jpg,0.3\n", "row 3: no photograph is called wall.jpg; there"),
        ("path,millimetres_per_pixel\ndeck.jpg,0\n", "row 2: millimetres_per_pixel is 0, and must be a number"),
        ("path,millimetres_per_pixel\ndeck.jpg,nan\n", "must be a number between 0.0001 and 10,000"),
        ("path,millimetres_per_pixel\ndeck.jpg,0,3\n", "row 2: 3 values for 2 columns; decimal fractions take a point"),
        ("path,millimetres_per_pixel\ndeck.jpg,\n", "row 2: it takes either"),
        (HEADER + "deck.jpg,0.3,2,24,36\n", "row 2: it takes either"),
        (HEADER + "deck.jpg,,2,24,\n", "got distance_m, focal_length_mm"),
        ("path,millimetres_per_pixel\n,0.3\n", "row 2: path is empty"),
        ("path,millimetres_per_pixel\n\n", "has no row below its header"),
        ("path,millimetres_per_pixel\ndeck.jpg,inf\n", "must be a number between"),
        ("path,millimetres_per_pixel\npier/*,0.1\npier/b.jpg,5\n", "row 3: rows above have already given the scale"),
    ],
)
def test_a_wrong_table_is_explained(text, message):
    with pytest.raises(ValueError, match=r"scale\.csv") as error:
        read(text)
    assert message in str(error.value)


def test_what_is_no_text_is_explained():
    with pytest.raises(ValueError, match="not text in UTF-8"):
        read_scales(b"\xff\xd8\xff\xe0", PATHS)


@given(st.floats(0.1, 100), st.floats(1, 500), st.floats(1, 60), st.integers(1, 20_000), st.integers(1, 20_000))
def test_twice_as_far_is_twice_as_large(distance, focal, sensor, width, height):
    near, far = (
        Optics(distance_m=n * distance, focal_length_mm=focal, sensor_width_mm=sensor).millimetres_per_pixel(
            width, height
        )
        for n in (1, 2)
    )
    assert far == pytest.approx(2 * near)
