import pytest
from hypothesis import given
from hypothesis import strategies as st

from crack_pipeline.imaging.prompts import Box, Point, Prompts, check_inside, read_prompts

PATHS = ["a.jpg", "north/b.jpg"]
HEAD = "path,kind,x,y,x2,y2,label\n"


def test_points_and_boxes_by_photograph():
    text = HEAD + "a.jpg,point,10,20.5,,,1\na.jpg,point,3,4,,,0\nnorth/b.jpg,box,50,60,10,5,\na.jpg,point,1,2,,,\n"
    assert read_prompts(text.encode(), PATHS) == {
        "a.jpg": Prompts((Point(10, 20.5, True), Point(3, 4, False), Point(1, 2, True))),
        "north/b.jpg": Prompts(boxes=(Box(10, 5, 50, 60),)),
    }


@pytest.mark.parametrize(
    "text",
    [
        "path,kind,x,y\na.jpg,point,1,2\n",
        "\ufeffpath,kind,x,y\r\na.jpg,point,1,2\r\n",
        "kind, y,x ,path\n\n point, 2 ,1,./a.jpg\n,,,\n",
        "path,kind,x,y,label\na.jpg,point,1,2,1",
    ],
)
def test_spreadsheets_write_tables_in_many_ways(text):
    assert read_prompts(text.encode(), PATHS) == {"a.jpg": Prompts((Point(1, 2, True),))}


def test_a_backslash_separates_folders_too():
    assert "north/b.jpg" in read_prompts(b"path,kind,x,y\nnorth\\b.jpg,point,1,2\n", PATHS)


def test_a_table_without_rows_names_nothing():
    assert read_prompts(HEAD.encode(), PATHS) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no column path; the first line names path, kind, x, y"),
        ("path,kind,x\n", r"no column y;"),
        ("path,kind,x,y,colour\n", r"an unknown column 'colour'; there are path"),
        ("path,kind,x,y,x\n", r"the column x twice"),
        (
            HEAD + "a.jpg,point,1,2,,,1\nc.jpg,point,1,2,,,1\n",
            r"line 3 of the prompts: there is no photograph 'c\.jpg'",
        ),
        (HEAD + "a.jpg,line,1,2,,,1\n", r"line 2 of the prompts: kind is 'line', and takes point or box"),
        (HEAD + "a.jpg,point,left,2,,,1\n", r"line 2 .*x is 'left', and must be a number of px"),
        (HEAD + "a.jpg,point,1,-2,,,1\n", r"y is '-2'"),
        (HEAD + "a.jpg,point,1,nan,,,1\n", r"y is 'nan'"),
        (HEAD + "a.jpg,point,1,,,,1\n", r"y is missing"),
        (HEAD + "a.jpg,point,1,2,3,,1\n", r"a point has no x2; a box has"),
        (HEAD + "a.jpg,point,1,2,,,2\n", r"label is '2', and takes 1"),
        (HEAD + "a.jpg,box,1,2,3,,\n", r"y2 is missing"),
        (HEAD + "a.jpg,box,1,2,1,9,\n", r"the box from 1, 2 to 1, 9 is empty"),
        (HEAD + "a.jpg,box,1,2,3,4,0\n", r"label is '0'; a box is always around structure"),
        (HEAD + "a.jpg,point,1,2,,,0\n", r"line 2 .*only points on the background; add a point with the label 1"),
        (HEAD + "a.jpg,point,1,2,,,1,more\n", r"line 2 .*has more fields than the first line"),
    ],
)
def test_a_wrong_table_names_its_row(text, message):
    with pytest.raises(ValueError, match=message):
        read_prompts(text.encode(), PATHS)


def test_another_encoding_is_named():
    with pytest.raises(ValueError, match=r"no text in UTF-8: .* at byte 0"):
        read_prompts(b"\xff\xfea", PATHS)


@given(st.binary(max_size=60))
def test_anything_else_is_refused_with_a_message(text):
    with pytest.raises(ValueError, match="prompts"):
        read_prompts(text, PATHS)


def test_what_lies_outside_the_photograph_is_refused():
    prompts = Prompts((Point(10, 20, True),), (Box(0, 0, 100, 50),))
    check_inside(prompts, (50, 100))
    for size in ((49, 100), (50, 99)):
        with pytest.raises(ValueError, match=r"reaches to x 100, y 50, and the photograph is \d+ × \d+ px"):
            check_inside(prompts, size)
