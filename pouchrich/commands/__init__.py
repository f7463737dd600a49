"""The verbs of `pouchrich` that look at containers and the node. Each module's `add` declares its command line."""
