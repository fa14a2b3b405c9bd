import pandas as pd
import pytest

from crack_pipeline.pipelines.ingestion.parameters import Preset
from crack_pipeline.pipelines.ingestion.splits import apply_splits

PATHS = ["a/1.jpg", "a/2.jpg", "a/IMG.3.jpg", "b/1.jpg", "b/4.png"]


class Root:
    name = "made up"

    def __init__(self, files):
        self.files = files

    def list(self):
        return []

    def read(self, path):
        if path not in self.files:
            raise FileNotFoundError(path)
        content = self.files[path]
        return content if isinstance(content, bytes) else content.encode()


def apply(split_files, files, rejected=()):
    photographs = pd.DataFrame({"path": PATHS, "label": "crack", "mask_path": None, "source": "before", "size": 1})
    lost = pd.DataFrame([(path, "damaged", "why") for path in rejected], columns=["path", "kind", "reason"])
    preset = Preset.model_validate({"label_from": "none", "split_files": split_files})
    found, more = apply_splits(photographs, lost, Root(files), preset)
    return found.set_index("path")["source"].to_dict(), more.iloc[len(lost) :].set_index("path").to_dict("index")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("a/2.jpg", "a/2.jpg"),
        ("A\\2.JPG", "a/2.jpg"),
        ("./a/2", "a/2.jpg"),
        ("/a/2", "a/2.jpg"),
        ("2.jpg", "a/2.jpg"),
        ("2", "a/2.jpg"),
        ("IMG.3", "a/IMG.3.jpg"),
        ("b/1", "b/1.jpg"),
        ("4.png", "b/4.png"),
        ("b/4.png masks/4.png", "b/4.png"),
        ("  b/4.png \t masks/4.png\r", "b/4.png"),
    ],
)
def test_an_entry_names_a_photograph_by_path_end_or_without_ending(line, path):
    sources, faults = apply({"test": "test.txt"}, {"test.txt": f"# the official test\n\n{line}\n"})
    assert sources == {other: "test" if other == path else "" for other in PATHS}
    assert not faults


@pytest.mark.parametrize("split", ["Training", "train", "TRAIN "])
def test_splits_are_known_by_other_spellings(split):
    sources, faults = apply({split: "one.txt", "Testing": "two.txt"}, {"one.txt": "a/1\n2", "two.txt": "b/1\n4"})
    assert sources == {"a/1.jpg": "train", "a/2.jpg": "train", "b/1.jpg": "test", "b/4.png": "test"}
    assert faults == {"a/IMG.3.jpg": UNNAMED}


def test_several_files_give_several_splits():
    files = {"s/train.txt": "1.jpg\n".replace("1", "a/1") + "2\n", "s/test.txt": "b/1\r\n4\r\n"}
    sources, faults = apply({"train": "s/train.txt", "test": "s/test.txt"}, files)
    assert sources == {"a/1.jpg": "train", "a/2.jpg": "train", "b/1.jpg": "test", "b/4.png": "test"}
    assert faults == {"a/IMG.3.jpg": UNNAMED}


def test_without_a_list_for_training_the_rest_may_be_drawn():
    sources, faults = apply({"test": "s/test.txt"}, {"s/test.txt": "b/1\n"})
    assert sources == {"a/1.jpg": "", "a/2.jpg": "", "a/IMG.3.jpg": "", "b/1.jpg": "test", "b/4.png": ""}
    assert not faults


UNNAMED = {"kind": "no split", "reason": "in no split file, and one lists what to train on"}
CSV = "\ufeffid;Image;Split\n7;a/1.jpg;train\n8;2;Test\n9;a/IMG.3;TEST\n10;4;val\n"


@pytest.mark.parametrize(
    ("split_files", "expected"),
    [
        ("s.csv", ["train", "test", "test", "val"]),
        ({"test": "s.csv"}, ["", "test", "test", "", ""]),
        ({"train": "s.csv", "validation": "list.csv"}, ["train", "validation"]),
    ],
)
def test_a_csv_names_the_photograph_and_perhaps_its_split(split_files, expected):
    sources, faults = apply(split_files, {"s.csv": CSV, "list.csv": 'path,note\n"4.png","a, b"\n'})
    assert list(sources.values()) == expected
    assert all(fault == UNNAMED for fault in faults.values())
    assert len(sources) + len(faults) == 5


def test_entries_that_name_none_or_several_are_reported_and_lead_to_nothing():
    sources, faults = apply({"test": "test.txt"}, {"test.txt": "2\nnobody.jpg\n1.jpg\nlost\n"}, ["a/lost.jpg"])
    assert sources == {"a/1.jpg": "", "a/2.jpg": "test", "a/IMG.3.jpg": "", "b/1.jpg": "", "b/4.png": ""}
    assert faults == {
        "test.txt:2": {"kind": "split line", "reason": "'nobody.jpg' matches no photograph"},
        "test.txt:3": {"kind": "split line", "reason": "'1.jpg' matches 2 photographs: a/1.jpg, b/1.jpg"},
    }


def test_a_photograph_in_two_splits_is_left_out():
    sources, faults = apply({"test": "e.txt", "train": "r.txt"}, {"e.txt": "2\n4", "r.txt": "a/2.jpg\na/1"})
    assert sources == {"a/1.jpg": "train", "b/4.png": "test"}
    two = {"kind": "two splits", "reason": "it is in test and in train"}
    assert faults == {"a/2.jpg": two, "a/IMG.3.jpg": UNNAMED, "b/1.jpg": UNNAMED}


@pytest.mark.parametrize(
    ("split_files", "content", "message"),
    [
        ({"test": "gone.txt"}, "", "gone.txt cannot be read from the root made up"),
        ({"test": "s.txt"}, "x\ny", "none of the 2 entries of s.txt names one photograph.* the first is 'x'"),
        ({"test": "s.txt"}, "1.jpg", "none of the 1 entries"),
        ({"test": "s.txt"}, "\n# nothing\n", "s.txt names no photograph for test"),
        ({"test": "s.txt"}, b"\xff\xfe\x00", "not a text file"),
        ("s.txt", "2", r"plain list, so it must say of which split: {test: s.txt}"),
        ({"test": "s.csv"}, "name,split\n2,test", "needs a column path, file or image; it has name, split"),
        ("s.csv", "file\n2", "needs a column path, file or image and a column split; it has file"),
        ({"test": "s.csv"}, "file,split\n2,train", "s.csv names no photograph for test"),
        ({"test": "s.csv"}, "", "it has none"),
    ],
)
def test_files_that_cannot_be_understood_end_the_run(split_files, content, message):
    with pytest.raises(ValueError, match=message):
        apply(split_files, {"s.txt": content, "s.csv": content})


def test_without_split_files_the_source_stays():
    assert set(apply({}, {})[0].values()) == {"before"}
