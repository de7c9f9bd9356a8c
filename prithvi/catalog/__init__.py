"""Datasets and sensors described as data, and the samples that ship with the project."""

from prithvi.catalog.datasets import DatasetLayout, dataset, dataset_names
from prithvi.catalog.places import config_path, data_catalog
from prithvi.catalog.sensors import SENSORS, Sensor, sensor

__all__ = ["SENSORS", "DatasetLayout", "Sensor", "config_path", "data_catalog", "dataset", "dataset_names", "sensor"]
