#!/usr/bin/env bash
# Two threads that each limit BLAS to one thread for a while, one beginning and ending before the other.
#
# Guess: when both have ended the process has as many threads as before; threadpoolctl 3.8 says that while one thread
# controls OpenBLAS the limits of others do nothing, so that the second has nothing to undo.
# Seen: with 3.5 and with 3.8 NumPy's OpenBLAS stays at one thread for good. The second notes what it finds, which is the
# first one's limit, and puts that back after the first has ended (in 3.8: since nobody is in control then, it may).
# Whatever a library limits in threads that overlap has to be set and put back by one thread.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 3.5.0 3.8.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "threadpoolctl==$version" "numpy==2.3.5"
    OPENBLAS_NUM_THREADS=2 "$folder/$version/bin/python" - <<'PY'
import threading
from importlib.metadata import version

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits


def threads():
    return [part["num_threads"] for part in threadpool_info() if part["user_api"] == "blas"]


first_in, second_in, first_out = (threading.Event() for _ in range(3))


def first():
    with threadpool_limits(1, user_api="blas"):
        first_in.set()
        second_in.wait()
    first_out.set()


def second():
    first_in.wait()
    with threadpool_limits(1, user_api="blas"):
        second_in.set()
        first_out.wait()


before = threads()
both = [threading.Thread(target=target) for target in (first, second)]
for thread in both:
    thread.start()
for thread in both:
    thread.join()
print("threadpoolctl", version("threadpoolctl"), "numpy", np.__version__, "threads before", before, "after", threads())
assert (before, threads()) == ([2], [1])
PY
done
echo "Seen as stated."
