"""Datasets and sensors described as data, and the samples that ship with the project."""

from prithvi.catalog.datasets import ChipFiles, DatasetLayout, LabelClass
from prithvi.catalog.folders import folder_layout
from prithvi.catalog.sensors import SENSORS, Sensor, sensor
from prithvi.catalog.stac_catalog import config_path, data_catalog, dataset, dataset_names

__all__ = [
    "SENSORS", "ChipFiles", "DatasetLayout", "LabelClass", "Sensor", "config_path", "data_catalog", "dataset",
    "dataset_names", "folder_layout", "sensor",
]  # fmt: skip
