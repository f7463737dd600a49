"""The path of the node's configuration. An installation below a prefix replaces this file (hack/install.sh)."""

NODE_FILE = "/etc/pouchrich/config.toml"
