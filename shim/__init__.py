"""The part that containerd sees: the life of the shim process, ttrpc, and the Task API. Imports nothing."""

__version__ = "0.1.0"
