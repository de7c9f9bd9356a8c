"""How long the first answer takes: importing prithvi and its help text against TerraTorch's help text, in one run.

python benchmarks/bench_startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent


def seconds(command: list[str], runs: int) -> float:
    """Median wall time of a whole process, after one run that fills the file cache."""
    taken = []
    for run in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if run:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    ours = seconds([str(BIN / "prithvi"), "--help"], 7)
    imported = seconds([sys.executable, "-c", "import prithvi"], 7)
    bare = seconds([sys.executable, "-c", "pass"], 7)
    theirs = seconds([str(BIN / "terratorch"), "--help"], 3)
    print(f"python -c pass        {bare:7.3f} s")
    print(f"import prithvi        {imported:7.3f} s")
    print(f"prithvi --help        {ours:7.3f} s")
    print(f"terratorch --help     {theirs:7.3f} s")
    print(f"ratio, prithvi / terratorch {ours / theirs:.4f}")


if __name__ == "__main__":
    main()
