"""The parts of hack/bench.py: a place to measure in, the shims to drive, what is measured, and how it is told."""
