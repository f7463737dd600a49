"""Pure edits of an OCI runtime specification (config.json)."""
