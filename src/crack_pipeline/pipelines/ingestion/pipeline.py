"""The pipeline of the ingestion; every pipeline that reads photographs makes one under its own name."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines.ingestion import nodes

SHARED = ("params:dataset", "params:presets", "params:reading", "params:duplicates", "params:compute")
IMAGE = "params:image"


def create_pipeline(
    namespace: str = "ingestion",
    *,
    labelled: bool = True,
    partitioned: bool = True,
    grouped: bool = True,
    image: str = IMAGE,
) -> Pipeline:
    """Read the photographs under ``raw`` into ``images``, ``manifest`` and ``quarantine``.

    Parameters
    ----------
    namespace
        Name of the pipeline that needs the photographs; its datasets are ``<namespace>.raw``,
        ``<namespace>.manifest`` and so on.
    labelled
        Whether photographs have labels. False takes every photograph in any folder, for prediction.
    partitioned
        Whether to share the images out among roles (``partition``, ``disjointness``).
    grouped
        Whether to look for near-duplicates; False puts every photograph into a group of its own.
    image
        The form in which pictures are stored: ``params:image`` is the namespace's own parameter; another
        parameter is taken as it is; anything else is a dataset of the namespace.

    Returns
    -------
    Pipeline
    """
    listing = nodes.list_photographs if labelled else nodes.list_new_photographs
    grouping = (
        Node(
            nodes.group_near_duplicates,
            ["images", "params:duplicates", "group_blocks", "params:compute"],
            "groups",
            name="group_near_duplicates",
        )
        if grouped
        else Node(nodes.keep_apart, "images", "groups", name="keep_apart")
    )
    steps = [
        Node(
            listing,
            ["raw", "params:dataset", "params:presets", "params:reading"],
            ["photographs", "rejected"],
            name="list_photographs",
        ),
        Node(
            nodes.decode_photographs,
            [
                "raw",
                "photographs",
                "params:dataset",
                "params:presets",
                image,
                "params:reading",
                "image_parts",
                "params:compute",
            ],
            "images",
            name="decode_photographs",
        ),
        grouping,
        Node(
            nodes.build_manifest,
            ["images", "groups", "rejected"],
            ["candidates", "quarantine"],
            name="build_manifest",
        ),
        Node(
            nodes.check_quarantine,
            ["candidates", "quarantine", "params:reading"],
            "manifest",
            name="check_quarantine",
        ),
    ]
    if partitioned:
        steps += [
            Node(
                nodes.assign_roles,
                ["manifest", "known_partition", "params:partition"],
                "partition",
                name="assign_roles",
            ),
            Node(nodes.remember_roles, ["partition", "known_partition"], "known_roles", name="remember_roles"),
            Node(nodes.prove_disjoint, ["manifest", "partition"], "disjointness", name="prove_disjoint"),
        ]
    used = set().union(*(step.inputs for step in steps))
    parameters = {name: name for name in SHARED if name in used}
    if image.startswith("params:") and image != IMAGE:
        parameters[image] = image
    return Pipeline(steps, namespace=namespace, parameters=parameters)
