"""What is measured, each figure with its command. A package: pyarrow before 18 installs a `benchmarks` of its own."""
