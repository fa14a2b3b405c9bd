import json

import mlflow
import pandas as pd
import pytest

from crack_pipeline.serving.batch import main
from served_pictures import files


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deeper").mkdir()
    (tmp_path / "a.JPG").write_bytes(files()["jpg"])
    (tmp_path / "deeper/b.png").write_bytes(files()["png"])
    (tmp_path / "broken.png").write_bytes(files()["png"][:100])
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_every_photograph_of_a_folder_gets_a_line(registry, folder, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    assert main(["models:/segmentation/1", str(folder), "--threshold", "0.5"]) == 1
    first, broken, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [first["path"], broken["path"], second["path"]] == ["a.JPG", "broken.png", "deeper/b.png"]
    assert broken["error"].startswith("truncated or damaged")
    model = mlflow.pyfunc.load_model("models:/segmentation/1")
    table = pd.DataFrame({"image": [files()["jpg"], files()["png"]]})
    expected = model.predict(table, params={"threshold": 0.5})
    assert [first, second] == [
        one | {"path": path} for one, path in zip(expected, ["a.JPG", "deeper/b.png"], strict=True)
    ]


def test_masks_can_be_left_out_and_a_clean_folder_ends_well(registry, folder, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    (folder / "broken.png").unlink()
    assert main(["models:/segmentation/1", str(folder), "--no-mask"]) == 0
    assert "mask" not in json.loads(capsys.readouterr().out.splitlines()[0])


def test_a_folder_that_is_none_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["models:/segmentation/1", str(tmp_path / "nowhere")])
    assert "nowhere is no folder" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_one_message(registry, folder, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry)
    with pytest.raises(SystemExit):
        main(["models:/segmentation/99", str(folder)])
    assert "models:/segmentation/99 cannot be loaded: " in capsys.readouterr().err
