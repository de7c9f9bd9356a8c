"""What is measured, each figure with its command. A package, as pyarrow 17 installs a `benchmarks` of its own."""
