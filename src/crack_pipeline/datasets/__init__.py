"""Kedro datasets: the only code that touches files."""

from crack_pipeline.datasets.announced import AnnouncedCSVDataset
from crack_pipeline.datasets.block_folder import BlockFolderDataset
from crack_pipeline.datasets.chosen_model import ChosenModelDataset
from crack_pipeline.datasets.embeddings import EmbeddingsDataset
from crack_pipeline.datasets.figure_folder import FigureFolderDataset
from crack_pipeline.datasets.folder import FolderDataset
from crack_pipeline.datasets.image_stack import ImageStackDataset
from crack_pipeline.datasets.model_json import ModelJSONDataset
from crack_pipeline.datasets.model_registry import CarriedOutDataset, ModelRegistryDataset
from crack_pipeline.datasets.on_demand import OnDemandDataset
from crack_pipeline.datasets.onnx import OnnxDataset
from crack_pipeline.datasets.optional import OptionalParquetDataset, ParquetTableDataset
from crack_pipeline.datasets.part_folder import PartFolderDataset
from crack_pipeline.datasets.pretrained import PretrainedEncodersDataset
from crack_pipeline.datasets.raw_root import RawRootDataset
from crack_pipeline.datasets.record_folder import RecordFolderDataset
from crack_pipeline.datasets.registered_model import RegisteredModelDataset
from crack_pipeline.datasets.rendered_folder import RenderedFolderDataset
from crack_pipeline.datasets.repaired_folder import RepairedFolderDataset
from crack_pipeline.datasets.safetensors import SafetensorsDataset
from crack_pipeline.datasets.segment_anything import SegmentAnythingDataset
from crack_pipeline.datasets.segmentation_folder import SegmentationFolderDataset
from crack_pipeline.datasets.study import StudiesDataset
from crack_pipeline.datasets.text_parts import TextPartsDataset
from crack_pipeline.datasets.trial_runs import TrialRunsDataset
from crack_pipeline.datasets.unfinished_segmentation import UnfinishedSegmentationDataset

__all__ = [
    "AnnouncedCSVDataset",
    "BlockFolderDataset",
    "CarriedOutDataset",
    "ChosenModelDataset",
    "EmbeddingsDataset",
    "FigureFolderDataset",
    "FolderDataset",
    "ImageStackDataset",
    "ModelJSONDataset",
    "ModelRegistryDataset",
    "OnDemandDataset",
    "OnnxDataset",
    "OptionalParquetDataset",
    "ParquetTableDataset",
    "PartFolderDataset",
    "PretrainedEncodersDataset",
    "RawRootDataset",
    "RecordFolderDataset",
    "RegisteredModelDataset",
    "RenderedFolderDataset",
    "RepairedFolderDataset",
    "SafetensorsDataset",
    "SegmentAnythingDataset",
    "SegmentationFolderDataset",
    "StudiesDataset",
    "TextPartsDataset",
    "TrialRunsDataset",
    "UnfinishedSegmentationDataset",
]
