"""Sampling of tiles: equal draws from strata, and validation tiles apart from training tiles.

After the published sampling for Prithvi-EO-2.0 (NASA-IMPACT/prithvi-global-workshop): land cover and ecoregions decide,
common strata are thinned, rare ones keep a least number, 5 % of the tiles validate, and training tiles that share more
than 30 % of their area with one of those are left out. Balance is Shannon's entropy in nats, as reported there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import pystac
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from scipy.cluster.vq import kmeans2

from prithvi.chips.splits import EQUAL_AREA
from prithvi.errors import ConfigError, DatasetError, one_of
from prithvi.hls.items import table
from prithvi.scenes.vector_files import read_vectors


@dataclass(frozen=True)
class TileSample:
    """The sampled tiles and their balance."""

    tiles: gpd.GeoDataFrame
    """The chosen rows, with `stratum` and `split` (`train` or `val`)."""
    before: dict[str, float]
    """Entropy in nats of every stratum column, and of `stratum`, over all tiles."""
    after: dict[str, float]
    """The same over the chosen tiles."""
    dropped: int
    """Tiles drawn for training and left out because they overlap a validation tile."""

    def sentence(self) -> str:
        """The balance, before and after."""
        figures = "; ".join(f"{name} {self.before[name]:.2f} -> {self.after[name]:.2f}" for name in self.before)
        parts = self.tiles["split"].value_counts()
        return (
            f"{parts.get('train', 0)} training and {parts.get('val', 0)} validation tiles ({self.dropped} left out "
            f"beside these); entropy {figures}"
        )


def sample_tiles(
    tiles: gpd.GeoDataFrame,
    strata: Sequence[str],
    *,
    count: int,
    clusters: int | None = None,
    minimum: int = 3,
    validation: float = 0.05,
    overlap: float = 0.3,
    seed: int = 1911,
) -> TileSample:
    """Draws tiles so that every stratum counts alike.

    Columns of words are classes. Columns of numbers (shares of land cover, temperature, rain) are standardised and
    clustered together. Tiles alike in all of these form a stratum.

    Args:
        tiles: a row a tile, its footprint as geometry, with a CRS.
        strata: names of the columns that decide.
        count: tiles to draw; fewer are drawn where there are no more.
        clusters: k-means clusters of the numeric columns; needed if there are such columns.
        minimum: tiles kept of every class of every column, if it has as many.
        validation: share of the drawn tiles that validate.
        overlap: share of its own area that a training tile may have in common with a validation tile.
        seed: of every draw.

    Raises:
        ConfigError: a column is missing or empty, or a share is none.
        DatasetError: no tiles, or tiles without a CRS.

    """
    _check(tiles, strata, count, clusters, validation, overlap)
    chance = np.random.default_rng(seed)
    labels = _labels(tiles, strata, clusters, chance)
    stratum = labels.astype(str).agg(" / ".join, axis=1)
    # Draw first, then take some of what was drawn for validation, then drop training tiles beside these: dropping
    # before the draw would let the validation tiles decide which strata are rare.
    drawn = _draw(stratum, labels, min(count, len(tiles)), minimum, chance)
    chosen = tiles.iloc[drawn].assign(stratum=stratum.iloc[drawn])
    held = chance.permutation(len(chosen))[: round(validation * len(chosen))]
    validates = np.zeros(len(chosen), bool)
    validates[held] = True
    apart = ~_overlapping(chosen, validates, overlap)
    chosen = chosen.assign(split=np.where(validates, "val", "train"))[apart]
    strata_of = labels.assign(stratum=stratum)
    kept = strata_of.iloc[np.asarray(drawn)[apart]]
    before, after = ({name: entropy(frame[name]) for name in frame} for frame in (strata_of, kept))
    return TileSample(chosen, before, after, int((~apart).sum()))


def read_tiles(path: str | Path, items: Sequence[pystac.Item]) -> gpd.GeoDataFrame:
    """A table of tiles to sample from: the rows with granules, where these lie if the table has no geometry.

    Raises:
        DatasetError: the file cannot be read, has no column `tile`, or names no tile that there is a granule of.

    """
    file = Path(path)
    try:
        frame = pd.read_csv(file) if file.suffix.lower() == ".csv" else read_vectors(file, "a table of tiles")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file} cannot be read as a table of tiles ({error}).") from error
    if "tile" not in frame.columns:
        raise DatasetError(f"{file} has no column tile; it has {', '.join(map(str, frame.columns))}.")
    frame = frame.assign(tile=frame["tile"].astype(str).str.removeprefix("T"))
    places = table(items).dissolve("tile").geometry
    there = frame[frame["tile"].isin(places.index)].reset_index(drop=True)
    if there.empty:
        raise DatasetError(f"{file} names {len(frame)} tiles, and there is no granule of any of them.")
    if not isinstance(there, gpd.GeoDataFrame):
        there = gpd.GeoDataFrame(there, geometry=places.loc[there["tile"]].to_numpy(), crs=places.crs)
    return there


def entropy(labels: pd.Series) -> float:
    """Shannon entropy in nats of the shares of each label; 0 for one label, ln(n) for n equally common ones."""
    shares = labels.value_counts(normalize=True).to_numpy()
    return float(-(shares * np.log(shares)).sum()) + 0.0


def _check(
    tiles: gpd.GeoDataFrame, strata: Sequence[str], count: int, clusters: int | None, validation: float, overlap: float
) -> None:
    if len(tiles) == 0 or tiles.crs is None:
        raise DatasetError(f"{len(tiles)} tiles were given{' without a CRS' * (tiles.crs is None)}: nothing to draw.")
    if not strata:
        raise ConfigError(f"no stratum column was named; the tiles have {', '.join(map(str, tiles.columns))}.")
    for name in strata:
        one_of(name, list(map(str, tiles.columns)), "the tiles have no column")
        if tiles[name].isna().any():
            raise ConfigError(f"column {name} is empty for {int(tiles[name].isna().sum())} tiles: fill or drop these.")
    numeric = [name for name in strata if _is_number(tiles[name])]
    if numeric and clusters is None:
        raise ConfigError(f"{', '.join(numeric)} are numbers: say how many clusters they are put into (--clusters).")
    if not (count >= 1 and 0 <= validation < 1 and 0 <= overlap <= 1):
        found = f"count={count}, validation={validation:g}, overlap={overlap:g}"
        raise ConfigError(f"{found}: at least one tile, and shares from 0 to 1.")


def _is_number(values: pd.Series) -> bool:
    return bool(is_numeric_dtype(values) and not is_bool_dtype(values))


def _labels(
    tiles: gpd.GeoDataFrame, strata: Sequence[str], clusters: int | None, chance: np.random.Generator
) -> pd.DataFrame:
    """The class of each tile by column; all numeric columns together become `cluster`."""
    numeric = [name for name in strata if _is_number(tiles[name])]
    labels = pd.DataFrame({name: tiles[name].to_numpy() for name in strata if name not in numeric})
    if numeric and clusters is not None:
        # Standardised, so that a column in kelvin does not outweigh one of shares.
        values = tiles[numeric].to_numpy(float)
        spread = values.std(axis=0)
        values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
        many = min(clusters, len(np.unique(values, axis=0)))
        _, found = kmeans2(values, many, minit="++", seed=chance, iter=50, missing="warn") if many > 1 else (0, 0)
        labels["cluster"] = np.broadcast_to(found, len(tiles))
    return labels


def _draw(stratum: pd.Series, labels: pd.DataFrame, count: int, minimum: int, chance: np.random.Generator) -> list[int]:
    """Positions of drawn tiles: first the least number of every class, then turn by turn from each stratum."""
    # One random order of all tiles serves both rounds, so that a tile drawn for its class's minimum is also the one
    # that its stratum would have given next.
    order = chance.permutation(len(stratum))
    drawn: dict[int, None] = {}
    for name in labels:
        values = labels[name].to_numpy()
        for value in sorted(set(values.tolist()), key=str):
            have = sum(values[index] == value for index in drawn)
            fresh = [int(index) for index in order if values[index] == value and int(index) not in drawn]
            drawn.update(dict.fromkeys(fresh[: max(0, minimum - have)]))
    # Then one tile at a time from the stratum that has given fewest so far: as level as the strata's sizes allow.
    queues = {
        name: [int(i) for i in order if stratum.iloc[i] == name and int(i) not in drawn]
        for name in sorted(set(stratum))
    }
    taken = {name: sum(stratum.iloc[index] == name for index in drawn) for name in queues}
    while len(drawn) < count and any(queues.values()):
        poorest = min((name for name in queues if queues[name]), key=lambda name: (taken[name], name))
        drawn[queues[poorest].pop(0)] = None
        taken[poorest] += 1
    return sorted(drawn)


def _overlapping(chosen: gpd.GeoDataFrame, validates: npt.NDArray[np.bool_], limit: float) -> npt.NDArray[np.bool_]:
    """Training tiles that share more than `limit` of their area with one validation tile."""
    shapes = chosen.geometry.to_crs(EQUAL_AREA).to_numpy()
    result = np.zeros(len(chosen), bool)
    for held in np.flatnonzero(validates):
        for other in np.flatnonzero(~validates & ~result):
            if shapes[other].intersects(shapes[held]):
                shared = shapes[other].intersection(shapes[held]).area / shapes[other].area
                result[other] |= shared > limit
    return result
