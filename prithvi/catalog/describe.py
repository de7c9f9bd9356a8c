"""A dataset of the catalog in words."""

from __future__ import annotations

from typing import Any

from prithvi.catalog.stac_catalog import collection, dataset


def describe(name: str) -> dict[str, Any]:
    """What a reader wants to know of a dataset, by heading; lists have a line an entry.

    Raises:
        DatasetError: there is no such dataset.

    """
    plain, layout = collection(name), dataset(name)
    hub, source = plain.get("prithvi:hub"), plain.get("prithvi:source")
    order = f"{layout.frames} dates, {layout.order}: all of them for one date, then the next"
    if layout.order == "band-major":
        order = f"{layout.frames} dates, band-major: one of them for all dates, then the next"
    rows: dict[str, Any] = {
        "dataset": f"{name}: {plain['title']}",
        "what": plain["description"],
        "files": [layout.image, *([layout.label] if layout.label else [])],
        "bands": ", ".join(layout.bands),
        "order": order if layout.frames > 1 else "one date",
        "values": f"reflectance = value x {layout.gain:g}, {layout.contract.level}, {layout.contract.resolution:g} m"
        + (f", nodata {', '.join(f'{value:g}' for value in layout.nodata)}" if layout.nodata else ""),
        "statistics": [
            f"{band:12} mean {mean:9.2f}  std {std:9.2f}  (reflectance x {layout.contract.scale:g})"
            for band, mean, std in zip(layout.contract.bands, layout.contract.mean, layout.contract.std, strict=True)
        ],
        "parts": [f"{part}: {text}" for part, text in plain["prithvi:layout"]["split_notes"].items()],
        "licence": plain["license"],
        "cite": " doi:".join(plain[key] for key in ("sci:citation", "sci:doi") if key in plain) or "-",
        "hub": _on_the_hub(hub) if hub else "-",
    }
    if source:
        rows["source"] = [source["url"], *source["files"]]
    if layout.classes:
        rows["classes"] = [f"{entry.value:3} {entry.name} #{entry.color}" for entry in layout.classes]
        rows["classes"] += [f"{value:3} says nothing" for value in layout.ignore]
    if layout.dates:
        rows["dates"] = f"read from {layout.dates.get('table', 'the file names')}"
    return rows


def _on_the_hub(hub: dict[str, Any]) -> list[str]:
    """Repository and files, with the checksums that are known."""
    sums = hub.get("sha256", {})
    files = [f"{file}  sha256 {sums[file]}" if file in sums else file for file in hub["files"]]
    return [f"{hub['repo_id']} ({hub['repo_type']}, revision {hub['revision']})", *files]
