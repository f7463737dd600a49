"""Kernel interfaces that this project needs beyond the `os` module: typed, with one error style, without policy."""
