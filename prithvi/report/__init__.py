"""A result as one page to look at and to send around: it opens from disk and asks no network."""

from prithvi.report.page import view

__all__ = ["view"]
