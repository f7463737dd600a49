"""The parts of hack/fuzz.py: hostile requests, and the real pod server that gets them."""
