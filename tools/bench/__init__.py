"""The figures of docs/benchmarks.md, each measured beside its floor in the same run."""
