"""The PATH of a program for which nobody sets one."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH that Debian's login gives root (/etc/login.defs, ENV_SUPATH), and that containerd's client gives a container
whose image sets none (oci/spec.go, defaultUnixEnv)."""
