"""Pictures of what goes in and what comes out: scenes, maps, series, embeddings, reconstructions, figures.

Every function takes a result and draws it on `ax` (one is made where none is given), on its ground where that is known,
and returns the Axes, or an array of them.
"""

from prithvi.plot.charts import label_efficiency, reliability
from prithvi.plot.class_plots import classes, values
from prithvi.plot.composites import compare, composite, strip
from prithvi.plot.embedding_plots import embedding
from prithvi.plot.pictures import FALSE_COLOR, INFRARED, TRUE_COLOR, rgb, stretch
from prithvi.plot.reconstructions import reconstruction

__all__ = [
    "FALSE_COLOR", "INFRARED", "TRUE_COLOR", "classes", "compare", "composite", "embedding", "label_efficiency",
    "reconstruction", "reliability", "rgb", "stretch", "strip", "values",
]  # fmt: skip
