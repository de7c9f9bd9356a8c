"""Results as a self-contained HTML page, which opens from disk without a network."""

from prithvi.report.page import view

__all__ = ["view"]
