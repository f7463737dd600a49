"""The parts of hack/bench.py: a place to measure in, the shims to drive, the measurements, and the report."""
