"""The OCI runtime, crun or runc, as one small interface over its command line."""
