#!/usr/bin/env bash
# distributed 2026.8.0: `as_completed` waits in the loop of the current client, not in that of the futures' own client.
#
# Guess: futures know their client, so that it does not matter which client is the current one (`with Client(...)`).
# Seen: while another client is the current one, a result that is lost with its worker (it is computed again elsewhere)
# ends in "bound to a different event loop" when it is asked for; with `as_completed(futures, loop=client.loop)` it
# comes. Without a lost result both work, so that tests on a cluster that loses nobody do not show it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dask==2026.8.0 distributed==2026.8.0
cd "$folder"
cat > lost.py <<'PYTHON'
import os, signal, time

import distributed
from distributed import Client, LocalCluster, as_completed


def results(loop: bool) -> str:
    """What comes of four tasks whose worker dies after all have ended and one result was taken."""
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        client = Client(cluster.scheduler_address)  # not the current one
        futures, found = [client.submit(os.getpid, pure=False) for _ in range(4)], []
        try:
            for future in as_completed(futures, loop=client.loop if loop else None):
                found.append(future.result())
                if len(found) == 1:
                    time.sleep(2)  # the others end
                    os.kill(found[0], signal.SIGKILL)
        except RuntimeError as error:
            return str(error).partition(" is ")[2]
        finally:
            client.close()
    return f"{len(found)} results, {len(set(found))} workers"


if __name__ == "__main__":
    print("distributed", distributed.__version__)
    plain, own = results(False), results(True)
    print("guess: 4 results either way")
    print(f"seen:  {plain!r}; with its own loop {own!r}")
    assert plain == "bound to a different event loop", plain
    assert own == "4 results, 2 workers", own
PYTHON
"$folder/venv/bin/python" lost.py 2> log.txt || { tail -5 log.txt; exit 1; }
