import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from kedro.validation import ParameterValidationError
from PIL import Image

import hostile
from crack_pipeline.pipelines.ingestion import create_pipeline
from hostile import encoded, photograph


def write(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def plain(n, folder="Negative", first=0):
    return {f"{folder}/{i:03d}.png": encoded(photograph(first + i), "PNG") for i in range(n)}


def mask(height, width, *boxes, value=255, kind="PNG"):
    pixels = np.zeros((height, width), np.uint8)
    for y, x, h, w in boxes:
        pixels[y : y + h, x : x + w] = value
    return encoded(Image.fromarray(pixels), kind)


def wide(seed, height, width):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def test_from_files_to_tables(workspace, tmp_path):
    root = write(tmp_path / "root", {**plain(6), **plain(4, "Positive", 50)})
    done = workspace.ingest(root, parameters={"image": {"size": 32}})
    manifest = done.manifest
    assert list(manifest.columns) == [
        "image_id", "path", "label", "mask_path", "width", "height", "group", "source", "photo_id", "row",
        "crack_pixels",
    ]  # fmt: skip
    assert manifest["path"].tolist() == sorted(manifest["path"])
    assert (manifest["label"] == "crack").tolist() == manifest["path"].str.startswith("Positive").tolist()
    assert done.images.shape == (10, 32, 32)
    assert done.quarantine.empty
    assert (manifest["image_id"] == manifest["photo_id"]).all()
    assert manifest["image_id"].str.fullmatch("[0-9a-f]{32}").all()
    assert (manifest[["width", "height"]] == 64).all(axis=None)


def test_hostile_files_are_survived_and_explained(workspace, tmp_path):
    kinds = hostile.make(tmp_path / "root")
    assert len(kinds) >= 30
    done = workspace.ingest(tmp_path / "root", parameters={"reading": {"max_bad_share": 0.6}})
    quarantine = done.quarantine.set_index("path")
    assert {kind: quarantine.loc[path, "kind"] for kind, (path, _) in kinds.items()} == {
        kind: word for kind, (_, word) in kinds.items()
    }
    assert len(quarantine) == len(kinds)
    assert quarantine["reason"].str.len().min() > 10
    cracks = done.manifest.query("label == 'crack'")["path"]
    assert set(cracks) == {f"Positive/{name}" for name in hostile.HEALTHY}
    assert len(done.manifest) == len(hostile.HEALTHY) + 30


def test_too_much_that_is_bad_ends_the_run_but_leaves_the_quarantine(workspace, tmp_path):
    root = write(tmp_path / "root", {**plain(2), "Positive/a.jpg": b"text", "Positive/b.jpg": b"", "c": b"x"})
    with pytest.raises(
        ValueError, match=r"3 of 5 files are bad, a share of 0.60; .*max_bad_share is 0.5 \(1 "
    ) as error:
        workspace.ingest(root)
    assert "Positive/a.jpg" in str(error.value)
    assert sorted(workspace.quarantine["path"]) == ["Positive/a.jpg", "Positive/b.jpg", "c"]
    assert len(workspace.ingest(root, parameters={"reading": {"max_bad_share": 0.6}}).manifest) == 2


def test_masks_without_photographs_do_not_hide_that_photographs_are_bad(workspace, tmp_path):
    orphans = {f"masks/{number}.png": mask(8, 8) for number in range(20)}
    root = write(tmp_path / "root", {**plain(4), "Positive/a.jpg": b"text", "Positive/b.jpg": b"", **orphans})
    with pytest.raises(ValueError, match=r"2 of 6 files are bad, .* \(20 orphan mask, 1 empty, 1 not an image\)"):
        workspace.ingest(root, parameters={"reading": {"max_bad_share": 0.3}})
    assert len(workspace.ingest(root, parameters={"reading": {"max_bad_share": 0.4}}).quarantine) == 22


@pytest.mark.parametrize("files", [{}, {"Positive/a.jpg": b"text"}, {"masks/a.png": b"text"}])
def test_nothing_left_ends_the_run(workspace, tmp_path, files):
    (tmp_path / "root").mkdir()
    with pytest.raises(ValueError, match="no photograph"):
        workspace.ingest(write(tmp_path / "root", files), parameters={"reading": {"max_bad_share": 1}})


def test_byte_copies_leave_the_first_and_are_not_bad(workspace, tmp_path):
    one = encoded(photograph(0), "PNG")
    root = write(tmp_path / "root", {f"Negative/{name}.png": one for name in "abcd"})
    done = workspace.ingest(root, parameters={"reading": {"max_bad_share": 0}})
    assert done.manifest["path"].tolist() == ["Negative/a.png"]
    assert done.quarantine["reason"].tolist() == ["same bytes as Negative/a.png"] * 3


def test_byte_copies_with_two_labels_all_go(workspace, tmp_path):
    one = encoded(photograph(99), "PNG")
    root = write(tmp_path / "root", {**plain(5), "Negative/x.png": one, "Positive/x.png": one})
    done = workspace.ingest(root)
    assert len(done.manifest) == 5
    assert done.quarantine["path"].tolist() == ["Negative/x.png", "Positive/x.png"]
    assert done.quarantine["reason"].str.contains("Negative/x.png says normal, Positive/x.png says crack").all()
    assert np.array_equal(done.images.take(done.manifest["row"].to_numpy()), done.images.take(np.arange(5)))


def test_a_zip_gives_the_same_tables_as_its_folder(workspace, tmp_path):
    files = {**plain(3), **plain(3, "Positive", 50)}
    from_folder = workspace.ingest(write(tmp_path / "root", files)).manifest
    with zipfile.ZipFile(tmp_path / "root.zip", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("../evil.png", encoded(photograph(1), "PNG"))
    done = workspace.ingest(tmp_path / "root.zip")
    pd.testing.assert_frame_equal(done.manifest, from_folder)
    assert done.quarantine["kind"].tolist() == ["outside the root"]


def test_tiles_take_their_labels_from_the_mask_and_doubtful_ones_are_left_out(workspace, tmp_path):
    # 2 × 4 tiles: two cracks, two of a few crack pixels, one with some in its margin, three without any
    marks = mask(256, 512, (10, 10, 20, 20), (10, 140, 2, 2), (130, 510, 60, 2), (120, 258, 1, 1))
    root = write(
        tmp_path / "root",
        {
            "train_img/1.png": encoded(wide(0, 256, 512), "PNG"),
            "train_lab/1.png": marks,
            "test_img/none.png": encoded(wide(1, 128, 128), "PNG"),
            "test_lab/none.png": mask(128, 128, (0, 0, 1, 1)),
            "test_img/small.png": encoded(wide(2, 100, 300), "PNG"),
            "test_lab/small.png": mask(100, 300),
        },
    )
    done = workspace.ingest(root, "deepcrack_tiles")
    photo = done.manifest["photo_id"].iloc[0]
    labels = done.manifest.set_index("image_id")["label"].rename(lambda name: name.removeprefix(photo + "-"))
    assert labels.to_dict() == {
        "0-0": "crack",
        "128-0": "normal",
        "128-128": "normal",
        "128-256": "normal",
        "128-384": "crack",
    }
    assert done.manifest["crack_pixels"].tolist() == [400, 0, 0, 0, 120]
    assert (done.manifest[["width", "height"]] == 128).all(axis=None)
    assert done.manifest["source"].unique().tolist() == ["train"]
    assert set(done.manifest["group"]) == {0}
    pixels = np.asarray(wide(0, 256, 512))
    tile = done.images.take(done.manifest["row"].to_numpy()[-1:])[0]
    assert np.abs(tile - pixels[128:256, 384:512] @ [0.299, 0.587, 0.114]).max() <= 1
    assert done.quarantine.set_index("path")["kind"].to_dict() == {
        "test_img/none.png": "doubtful",
        "test_img/small.png": "too small",
    }


def test_a_seam_is_not_a_crack_and_ignored_values_leave_tiles_out(workspace, tmp_path):
    seam = mask(128, 256, (0, 10, 128, 2), value=204)
    root = write(tmp_path / "root", {"train_img/1.png": encoded(wide(0, 128, 256), "PNG"), "train_lab/1.png": seam})
    assert workspace.ingest(root, "uav75_tiles").manifest["label"].tolist() == ["normal", "normal"]
    ignoring = {
        "label_from": "mask",
        "parts": [{"images": "train_img", "masks": "train_lab"}],
        "mask_values": {"crack": [255], "ignored": [204]},
        "tiling": {"max_ignored_share": 0.01},
    }
    done = workspace.ingest(root, "mine", parameters={"presets": {"mine": ignoring}})
    assert done.manifest["image_id"].str.endswith("-0-128").tolist() == [True]


def test_blurred_masks_are_thresholded_and_masks_of_ones_are_not(workspace, tmp_path):
    box = (16, 16, 32, 32)
    root = tmp_path / "root"
    masks = {
        "0.jpg": mask(64, 64, box, kind="JPEG"),
        "1.png": mask(64, 64, box, value=1),
        "2.png": mask(64, 64, box),
    }
    for number, (name, marks) in enumerate(masks.items()):
        write(
            root,
            {f"train/images/{number}.png": encoded(photograph(number), "PNG"), f"train/masks/{name}": marks},
        )
    write(
        root,
        {"test/images/n.png": encoded(photograph(9), "PNG"), "test/masks/n.jpg": mask(64, 64, kind="JPEG")},
    )
    manifest = workspace.ingest(root, "crack_segmentation").manifest.set_index("path")
    assert manifest["crack_pixels"].tolist() == [0, 1024, 1024, 1024]
    assert manifest["label"].tolist() == ["normal", "crack", "crack", "crack"]
    assert manifest["source"].tolist() == ["test", "train", "train", "train"]


def test_photographs_of_another_size_are_scaled_or_quarantined(workspace, tmp_path):
    root = write(tmp_path / "root", {**plain(2), "Negative/wide.png": encoded(wide(0, 32, 80), "PNG")})
    image = {"size": 64, "mode": "rgb", "resize": False}
    done = workspace.ingest(root, parameters={"image": image})
    assert done.images.shape == (2, 64, 64, 3)
    assert np.array_equal(done.images[0], np.asarray(photograph(0)))
    assert "80 × 32 px, and resize is false" in done.quarantine["reason"].iloc[0]
    assert workspace.ingest(root).images.shape == (3, 128, 128)


def test_new_photographs_need_no_labels_and_no_masks(workspace, tmp_path):
    root = write(tmp_path / "root", {"a.png": encoded(photograph(0), "PNG"), **plain(2, "where ever", 5)})
    done = workspace.ingest(root, labelled=False, grouped=False)
    assert done.manifest["label"].isna().all()
    assert done.manifest["group"].tolist() == [0, 1, 2]


def test_chunks_and_threads_change_nothing(workspace, tmp_path):
    root = write(tmp_path / "root", {**plain(9), "Negative/005x.png": b"", **plain(3, "Positive", 50)})
    first = workspace.ingest(root)
    expected, images = first.manifest, first.images.take(np.arange(12))
    for reading in ({"chunk": 1, "threads": 1}, {"chunk": 5, "threads": 7}, {"chunk_bytes": 1}):
        again = workspace.ingest(root, parameters={"reading": reading})
        pd.testing.assert_frame_equal(again.manifest, expected)
        assert np.array_equal(again.images.take(np.arange(12)), images)


def test_known_images_keep_their_role_when_others_are_added(workspace, tmp_path):
    root = write(tmp_path / "root", {**plain(30), **plain(30, "Positive", 100)})
    before = workspace.ingest(root, partitioned=True).partition.set_index("image_id")
    assert set(before["role"]) == {"train", "validation", "test", "external"}
    write(root, {**plain(20, "Negative/a new", 300), **plain(20, "Positive/a new", 400)})
    after = workspace.ingest(root, partitioned=True).partition.set_index("image_id")
    assert len(after) == 100
    assert (after.loc[before.index, "role"] == before["role"]).all()


def test_another_folder_in_between_changes_no_role(workspace, tmp_path):
    first = write(tmp_path / "first", {**plain(30), **plain(30, "Positive", 100)})
    other = write(tmp_path / "other", {**plain(30, first=600), **plain(30, "Positive", 700)})
    before = workspace.ingest(first, partitioned=True).partition.set_index("image_id")
    workspace.ingest(other, partitioned=True)
    write(first, {**plain(20, "Negative/a new", 300), **plain(20, "Positive/a new", 400)})
    after = workspace.ingest(first, partitioned=True).partition.set_index("image_id")
    assert (after.loc[before.index, "role"] == before["role"]).all()


def test_a_preset_without_labels_is_refused_where_labels_are_needed(workspace, tmp_path):
    with pytest.raises(ValueError, match="dataset=unlabelled has no labels"):
        workspace.ingest(write(tmp_path / "root", plain(3)), "unlabelled")


def test_a_photograph_in_a_folder_of_masks_is_not_lost_without_a_word(workspace, tmp_path):
    root = write(tmp_path / "root", {**plain(3, "a"), "masks/new.png": encoded(photograph(9), "PNG")})
    done = workspace.ingest(root, labelled=False, grouped=False)
    assert len(done.manifest) == 3
    assert done.quarantine["path"].tolist() == ["masks/new.png"]
    assert "rename it" in done.quarantine["reason"][0]


def test_wrong_parameters_are_found_before_anything_runs(workspace, tmp_path):
    for changed, message in (
        ({"image": {"size": 4}}, "size"),
        ({"reading": {"max_pixels": 10**9}}, "max_pixels"),
        ({"image": {"mode": "gray"}}, "'grey' or 'rgb'"),
        ({"reading": {"max_bad_share": 2}}, "max_bad_share"),
        ({"reading": {"chunks": 2}}, "chunks"),
    ):
        with pytest.raises(ParameterValidationError, match=message):
            workspace.ingest(tmp_path, parameters=changed)


def test_names_follow_the_namespace():
    pipeline = create_pipeline("anomaly")
    assert pipeline.inputs() == {
        "anomaly.raw", "anomaly.known_partition", "params:dataset", "params:presets", "params:reading",
        "params:duplicates", "params:anomaly.image", "params:anomaly.partition", "params:compute",
        "anomaly.image_parts", "anomaly.group_blocks",
    }  # fmt: skip
    assert {
        "anomaly.images",
        "anomaly.manifest",
        "anomaly.quarantine",
        "anomaly.partition",
    } <= pipeline.all_outputs()
    predict = create_pipeline(
        "anomaly_predict", labelled=False, partitioned=False, grouped=False, image="params:anomaly.image"
    )
    assert predict.inputs() == {
        "anomaly_predict.raw", "params:dataset", "params:presets", "params:reading", "params:anomaly.image",
        "params:compute", "anomaly_predict.image_parts",
    }  # fmt: skip


def test_it_can_be_added_to_another_under_its_own_name():
    both = create_pipeline("a") + create_pipeline("b", partitioned=False)
    assert len(both.nodes) == 13
    assert io.StringIO(both.describe())


def test_memory_does_not_grow_with_the_number_of_photographs():
    import tracemalloc

    from crack_pipeline.pipelines.ingestion.developing import develop_all
    from crack_pipeline.pipelines.ingestion.parameters import Image as Form
    from crack_pipeline.pipelines.ingestion.parameters import Preset, Reading

    class Source:
        name = "made up"

        def list(self):
            return []

        def read(self, path):
            return encoded(photograph(int(path)), "PNG")

    def peak(n):
        rows = pd.DataFrame({"path": [str(i) for i in range(n)], "label": None, "mask_path": None, "source": ""})
        form, preset = Form(size=64), Preset(label_from="none")
        tracemalloc.start()
        for _ in develop_all(Source(), rows, preset=preset, image=form, reading=Reading(chunk=16, threads=2)):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(16)
    assert peak(400) < 1.5 * peak(100)
