"""`python -m benchmarks.suite`: what `make bench` and `make results` run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.suite import accuracy, page, runner
from benchmarks.suite.machine import ROOT
from benchmarks.suite.registry import BENCHMARKS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=(__doc__ or ""))
    parser.add_argument("--results", action="store_true", help="four sizes and accuracy; goes on where it was stopped")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=[each.name for each in BENCHMARKS], help="these alone"
    )
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv" / "peers", help="folders of packages of their own")
    parser.add_argument("--data", type=Path, help="imagery that accuracy is measured on; without it that is left out")
    parser.add_argument("--out", type=Path, help="write this JSON instead of the project's, and no page")
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page and README's figures anew")
    parser.add_argument("--list", action="store_true", help="the list, and nothing else")
    asked = parser.parse_args()
    if asked.list:
        for each in BENCHMARKS:
            against = ", ".join(way.label for way in each.ways[1:])
            print(f"{each.name:14} sizes {each.sizes or '-'} / {each.more}: {each.title}; beside {against}")
        return 0
    if asked.page:
        page.write()
        return 0
    command = "make results" if asked.results else "make bench"
    ask = runner.Processes(asked.peers, None if asked.results else 900)
    results = runner.Results(asked.out or page.FILES[command], command, runner.head_of(ask))
    if asked.results:
        results.resume()
    wanted = [each for each in BENCHMARKS if not asked.only or each.name in asked.only]
    failed = runner.run(wanted, results, ask, asked.results)
    if asked.results and not asked.only:
        failed += accuracy.run(results, asked.data)
    if asked.out is None:
        page.write()
    for sentence in failed:
        print(f"\nFAILED {sentence}", file=sys.stderr)
    if failed:
        print(f"\n{len(failed)} of the list failed, named above; the others are kept.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
