from inspect import isgeneratorfunction
from pathlib import Path

import yaml

from crack_pipeline.pipelines.segmentation_tuning import create_pipeline

CONF = Path(__file__).parents[3] / "conf/base"
NAME = "segmentation_tuning"


def node(name):
    return next(node for node in create_pipeline().nodes if node.name == f"{NAME}.{name}")


def test_photographs_and_network_are_those_of_segmentation():
    inputs = {name.removeprefix("params:") for name in create_pipeline().inputs() if name.startswith("params:")}
    assert {name for name in inputs if name.startswith("segmentation.")} == {
        f"segmentation.{name}" for name in ("image", "partition", "network", "encoder_weights", "training")
    }
    assert {name for name in inputs if name.startswith(NAME)} == {f"{NAME}.{n}" for n in ("space", "search", "pruning")}


def test_nothing_after_the_partition_sees_all_photographs():
    whole = {f"{NAME}.manifest", f"{NAME}.partition"}
    readers = {found.name.removeprefix(f"{NAME}.") for found in create_pipeline().nodes if whole & set(found.inputs)}
    assert readers == {"assign_roles", "remember_roles", "prove_disjoint", "leave_out_test"}


def test_trials_are_saved_one_at_a_time():
    # Kedro asks the function itself, not what it returns.
    assert isgeneratorfunction(node("search_parameters").func)


def test_epochs_of_all_trials_are_not_mixed_in_one_run():
    assert "training" not in node("search_parameters").tags


def test_the_catalog_and_the_pipeline_speak_of_the_same_datasets():
    entries = yaml.safe_load((CONF / f"catalog/{NAME}.yml").read_text())
    named = {name for name in entries if not name.startswith("_")}
    assert named <= create_pipeline().datasets()


def test_roles_are_remembered_with_those_of_segmentation():
    entries = yaml.safe_load((CONF / f"catalog/{NAME}.yml").read_text())
    places = {entries[f"{NAME}.{name}"]["filepath"] for name in ("known_partition", "known_roles")}
    assert places == {"${globals:storage}/03_primary/segmentation/known_roles.parquet"}
