"""What this project asks of the kernel beyond the `os` module: typed, in one error style, without policy."""
