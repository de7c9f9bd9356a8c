"""Plots of scenes, maps, time series, embeddings, reconstructions and metrics.

Every function draws a result on `ax` (by default, that of a new figure), in map coordinates if the result is
georeferenced, and returns the Axes or an array of them.
"""

from prithvi.plot.charts import label_efficiency, reliability
from prithvi.plot.pictures import FALSE_COLOR, INFRARED, TRUE_COLOR, compare, composite, rgb, stretch, strip
from prithvi.plot.reconstructions import reconstruction
from prithvi.plot.result_plots import classes, embedding, values

__all__ = [
    "FALSE_COLOR", "INFRARED", "TRUE_COLOR", "classes", "compare", "composite", "embedding", "label_efficiency",
    "reconstruction", "reliability", "rgb", "stretch", "strip", "values",
]  # fmt: skip
