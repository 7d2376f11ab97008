"""ftx beside its peers, and against its goals: `python -m benchmarks` (see `benchmarks/README.md`)."""
