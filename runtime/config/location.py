"""Where the node's configuration is. An installation below a prefix replaces this file (hack/install.sh)."""

NODE_FILE = "/etc/pouchrich/config.toml"
