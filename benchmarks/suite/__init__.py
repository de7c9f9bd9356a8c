"""Everything that is measured by one command: `make bench` (two sizes), `make results` (four sizes, and accuracy).

`registry.yaml` is the list, `jobs/` what is timed, `child.py` a process that times it, `runner.py` what starts these
and keeps what they found, `page.py` what makes docs/benchmarks.md and a part of README.md of it.
"""
