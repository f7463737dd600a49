"""The parts of hack/chaos.py: the rounds, the clients that make containers, the faults, what faults may cost, and the
report."""
