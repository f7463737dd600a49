"""The parts of hack/chaos.py: what a round does, who makes the containers, what is broken meanwhile, what that may
cost, and how it is told."""
