"""Datasets and sensors described as data, and the samples that ship with the project."""

from prithvi.catalog.datasets import DatasetLayout, LabelClass, dataset, dataset_names, folder_layout
from prithvi.catalog.places import config_path, data_catalog
from prithvi.catalog.sensors import SENSORS, Sensor, sensor

__all__ = [
    "SENSORS", "DatasetLayout", "LabelClass", "Sensor", "config_path", "data_catalog", "dataset", "dataset_names",
    "folder_layout", "sensor",
]  # fmt: skip
