"""ttrpc: a protocol core without I/O, and its asyncio adapters."""
