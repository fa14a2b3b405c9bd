import pytest

from crack_pipeline.pipelines.ingestion.listing import list_files
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Preset, Presets
from ingesting import _loader


@pytest.fixture(scope="module")
def presets():
    return Presets.model_validate(_loader({})["parameters"]["presets"])


@pytest.fixture
def listed(presets):
    def listed(name, *paths, labelled=True):
        preset = presets.named(Dataset(name))
        files = [(path, 10, "", "") for path in sorted(paths)]
        photographs, rejected = list_files(files, preset, labelled=labelled, max_bytes=100)
        photographs = photographs.astype(object).where(photographs.notna(), None)
        return photographs.set_index("path").to_dict("index"), rejected.set_index("path").to_dict("index")

    return listed


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("Negative", "normal"),
        ("normal", "normal"),
        ("Sound concrete", "normal"),
        ("UNCRACKED", "normal"),
        ("non-crack", "normal"),
        ("Non Crack", "normal"),
        ("no_crack", "normal"),
        ("crack-free", "normal"),
        ("train/Negative", "normal"),
        ("Negative/cracks of 2020?/..."[:8], "normal"),
        ("Positive", "crack"),
        ("crack", "crack"),
        ("Cracked", "crack"),
        ("any where/cracks", "crack"),
        ("Positive/site 7", "crack"),
    ],
)
def test_the_folder_names_the_class(listed, folder, label):
    found, rejected = listed("folders", f"{folder}/1.jpg")
    assert found[f"{folder}/1.jpg"]["label"] == label
    assert not rejected


@pytest.mark.parametrize("path", ["1.jpg", "holidays/1.jpg", "cracker/1.jpg"])
def test_an_unknown_class_says_what_is_understood(listed, path):
    found, rejected = listed("folders", path)
    assert not found
    assert rejected[path]["kind"] == "unknown class"
    assert "normal: negative*" in rejected[path]["reason"]
    assert "crack: positive*" in rejected[path]["reason"]


def test_new_photographs_need_no_class(listed):
    paths = ["1.jpg", "holidays/1.jpg", "Positive/1.jpg"]
    for preset in ("folders", "unlabelled", "metu"):
        found, rejected = listed(preset, *paths, labelled=False)
        assert sorted(found) == sorted(paths)
        assert {about["label"] for about in found.values()} == {None}
        assert not rejected
    assert sorted(listed("unlabelled", *paths)[0]) == sorted(paths)


@pytest.mark.parametrize(
    ("preset", "photographs", "masks"),
    [
        ("folders", ["pier/1.jpg", "2.jpg"], ["masks/1.png", "masks/2_mask.png"]),
        ("folders", ["Negative/1.jpg", "a/Positive/2.jpg"], ["masks/Negative/1.png", "a/masks/Positive/2.png"]),
        ("deepcrack", ["DeepCrack/train_img/1.jpg", "test_img/2.jpg"], ["DeepCrack/train_lab/1.png", "test_lab/2.png"]),
        ("pairs", ["images/train/1.jpg", "b/images/2.jpg"], ["masks/train/1.png", "b/masks/2_mask.png"]),
    ],
)
def test_masks_beside_new_photographs_are_no_photographs_that_cannot_be_used(listed, preset, photographs, masks):
    found, rejected = listed(preset, *photographs, *masks, masks[0].replace("1.png", "other.png"), labelled=False)
    assert sorted(found) == sorted(photographs)
    assert {path: about["kind"] for path, about in rejected.items()} == {
        masks[0].replace("1.png", "other.png"): "mask folder"
    }


def test_photographs_of_sound_concrete_need_no_class(listed):
    found, rejected = listed("sound", "a.jpg", "b/c.jpg", "Positive/d.jpg")
    assert [about["label"] for about in found.values()] == ["normal"] * 3
    assert not rejected


def test_masks_lie_in_a_parallel_folder(listed):
    found, rejected = listed(
        "folders", "Positive/1.jpg", "Positive/2.jpg", "Positive/3.jpg", "Negative/1.jpg", "masks/1.png",
        "masks/Positive/2.png", "set/Positive/1.jpg", "set/masks/Positive/1_mask.png"
    )  # fmt: skip
    assert {path: about["mask_path"] for path, about in found.items()} == {
        "Negative/1.jpg": None,  # masks/1.png is that of the crack
        "Positive/1.jpg": "masks/1.png",
        "Positive/2.jpg": "masks/Positive/2.png",
        "Positive/3.jpg": None,
        "set/Positive/1.jpg": "set/masks/Positive/1_mask.png",
    }
    assert not rejected


@pytest.mark.parametrize(
    ("preset", "image", "mask", "source"),
    [
        ("deepcrack", "train_img/1.jpg", "train_lab/1.png", "train"),
        ("deepcrack_tiles", "test_img/1.jpg", "test_lab/1.png", "test"),
        ("uav75", "UAV75/Train_Img/a.b.jpg", "UAV75/train_lab/a.b.png", "train"),
        ("crack_segmentation", "x/train/images/1.jpg", "x/train/masks/1.jpg", "train"),
        ("crack_segmentation", "test/images/1.jpg", "test/masks/1.jpg", "test"),
    ],
)
def test_photographs_and_masks_of_the_known_sets(listed, preset, image, mask, source):
    found, rejected = listed(preset, image, mask, "elsewhere/1.jpg", image.replace(".jpg", "-maskless.jpg"))
    assert {path: (about["mask_path"], about["source"]) for path, about in found.items()} == {image: (mask, source)}
    assert {about["kind"] for about in rejected.values()} == {"unknown class", "no mask"}


@pytest.mark.parametrize(
    ("image", "mask", "source"),
    [
        ("images/1.jpg", "masks/1.png", ""),
        ("set/train/images/1.jpg", "set/train/masks/1_mask.png", "train"),
        ("val/images/a/1.jpg", "val/masks/a/1.png", "validation"),
        ("valid/images/1.jpg", "valid/masks/1.png", "validation"),
        ("test/images/1.jpg", "test/masks/1.png", "test"),
        ("images/test/1.jpg", "masks/test/1.png", "test"),
        ("images/site 7/1.jpg", "masks/site 7/1.png", ""),
    ],
)
def test_pairs_lie_in_images_and_masks_with_splits_around_or_inside(listed, image, mask, source):
    found, rejected = listed("pairs", image, mask)
    assert {path: (about["mask_path"], about["source"]) for path, about in found.items()} == {image: (mask, source)}
    assert not rejected


def test_masks_that_match_no_photograph_are_listed_and_photographs_of_several_or_shared_masks_too(listed):
    found, rejected = listed(
        "folders", "Positive/1.jpg", "masks/1.png", "masks/Positive/1.bmp", "Positive/2.jpg", "masks/2.png",
        "Positive/2.png", "cracked/3.jpg", "Positive/3.jpg", "masks/3.png", "Positive/4.jpg", "masks/4.png",
        "masks/5.png", "Negative/6.jpg", "masks/6.png", "holidays/7.jpg",
    )  # fmt: skip
    assert {path: about["mask_path"] for path, about in found.items()} == {
        "Positive/4.jpg": "masks/4.png",
        "Negative/6.jpg": None,
    }
    assert {path: (about["kind"], about["reason"]) for path, about in rejected.items() if "holi" not in path} == {
        "Positive/1.jpg": ("ambiguous mask", "2 masks match it: masks/Positive/1.bmp, masks/1.png"),
        "Positive/2.jpg": ("ambiguous mask", "its mask masks/2.png is that of another photograph, too"),
        "Positive/2.png": ("ambiguous mask", "its mask masks/2.png is that of another photograph, too"),
        "Positive/3.jpg": ("ambiguous mask", "its mask masks/3.png is that of another photograph, too"),
        "cracked/3.jpg": ("ambiguous mask", "its mask masks/3.png is that of another photograph, too"),
        "masks/5.png": ("orphan mask", "a mask without a photograph"),
        "masks/6.png": ("orphan mask", "a mask without a photograph"),
    }


def test_what_lies_beside_a_picture_of_the_same_name_is_passed_over(listed):
    found, rejected = listed(
        "pairs", "images/1.JPG", "images/1.json", "images/1.CR2", "images/1.jpg.txt", "masks/1.png", "masks/1.json",
        "images/2.json", "images/3.dat", "masks/3.png",
    )  # fmt: skip
    assert {path: about["mask_path"] for path, about in found.items()} == {
        "images/1.JPG": "masks/1.png",
        "images/3.dat": "masks/3.png",
    }
    assert {path: about["kind"] for path, about in rejected.items()} == {"images/2.json": "no mask"}


def test_masks_that_must_not_be_read_are_listed_with_their_reason(presets):
    files = [("images/1.jpg", 10, "", ""), ("images/2.jpg", 10, "", ""), ("images/3.jpg", 10, "outside the root", "x")]
    files += [
        ("masks/1.png", 10, "outside the root", "a link"),
        ("masks/2.png", 101, "", ""),
        ("masks/3.png", 9, "", ""),
    ]
    found, rejected = list_files(files, presets.named(Dataset("pairs")), labelled=True, max_bytes=100)
    assert not len(found)
    assert rejected.set_index("path")["kind"].to_dict() == {
        "images/1.jpg": "no mask",
        "images/2.jpg": "unreadable mask",
        "images/3.jpg": "outside the root",
        "masks/1.png": "outside the root",
    }


def test_files_of_splits_are_no_photographs(presets):
    preset = presets.named(Dataset("folders")).model_copy(update={"split_files": {"test": "Positive/test.txt"}})
    files = [("Positive/test.txt", 10, "", ""), ("Positive/1.jpg", 10, "", "")]
    found, rejected = list_files(files, preset, labelled=True, max_bytes=100)
    assert found["path"].tolist() == ["Positive/1.jpg"]
    assert rejected.empty


def test_clutter_is_passed_over_and_large_files_are_rejected(presets):
    files = [(path, 10, "", "") for path in (".DS_Store", "Positive/Thumbs.db", "__MACOSX/Positive/1.jpg")]
    files += [("Positive/big.jpg", 101, "", ""), ("../evil", 0, "outside the root", "no")]
    found, rejected = list_files(files, presets.named(Dataset("folders")), labelled=True, max_bytes=100)
    assert not len(found)
    assert rejected["kind"].tolist() == ["too large", "outside the root"]


def test_an_unknown_preset_names_those_there_are(presets):
    with pytest.raises(ValueError, match=r"dataset='meti' is not a preset: choose one of .*metu"):
        presets.named(Dataset("meti"))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"label_from": "folder"}, "no classes are named"),
        ({"label_from": "mask"}, "say where masks are"),
        ({"label_from": "none", "tiling": {}}, "tiling needs label_from: mask"),
        ({"label_from": "none", "clases": {}}, "Extra inputs"),
    ],
)
def test_a_wrong_preset_is_explained(block, message):
    with pytest.raises(ValueError, match=message):
        Preset.model_validate(block)
