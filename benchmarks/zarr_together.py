"""Many stores as one, without a copy: VirtualiZarr refers to their chunks, and Icechunk keeps the references.

    python benchmarks/zarr_together.py together.icechunk vectors_*.zarr

Needs `pip install icechunk 'virtualizarr[icechunk]' arro3-core` and nothing of prithvi; run with icechunk 2.3.0 and
virtualizarr 2.8.0 on Python 3.13. The stores are embeddings of one grid, a date each; both formats of Zarr will do.
What is read of the whole is compared with each store, bit by bit.
"""

from __future__ import annotations

import sys
from pathlib import Path

import icechunk
import numpy as np
import xarray as xr
from obspec_utils.registry import ObjectStoreRegistry
from obstore.store import LocalStore
from virtualizarr import open_virtual_dataset
from virtualizarr.parsers import ZarrParser


def together(target: Path, paths: list[Path]) -> xr.Dataset:
    """Writes a repository of references to stores, one `step` after another, and opens it."""
    registry = ObjectStoreRegistry({"file://": LocalStore()})
    small = ["time", "x", "y", "spatial_ref"]  # copied; all others stay where they are
    parts = [
        open_virtual_dataset(str(path), registry=registry, parser=ZarrParser(), loadable_variables=small)
        for path in paths
    ]
    whole = xr.concat(parts, "step", coords="minimal", compat="override", combine_attrs="override")
    # Icechunk reads other files only below a root that the repository names, and where the reader allows it.
    root = f"{paths[0].parent.as_uri()}/"
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(root, icechunk.local_filesystem_store(str(paths[0].parent)))
    )
    allowed = icechunk.containers_credentials({root: icechunk.Credentials.LocalFileSystemAccess()})
    storage = icechunk.local_filesystem_storage(str(target))
    repository = icechunk.Repository.create(storage, config, authorize_virtual_chunk_access=allowed)
    session = repository.writable_session("main")
    whole.vz.to_icechunk(session.store)
    session.commit(f"{len(paths)} stores")
    store = repository.readonly_session("main").store
    opened: xr.Dataset = xr.open_zarr(store, consolidated=False, decode_coords="all", mask_and_scale=False)
    return opened


def main() -> None:
    target, *names = map(Path, sys.argv[1:])
    paths = sorted(name.absolute() for name in names)
    whole = together(target.absolute(), paths)
    for number, path in enumerate(paths):
        one = xr.open_zarr(path, mask_and_scale=False)["embedding"].values[0]
        assert one.tobytes() == whole["embedding"].values[number].tobytes(), path
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    dates = np.datetime_as_string(whole["time"].values, "D")
    print(f"{target}: {whole['embedding'].shape} of {', '.join(dates)}, {whole.attrs['proj:code']}, {size:,} bytes")


if __name__ == "__main__":
    main()
