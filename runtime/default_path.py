"""The PATH of a program for which nobody has named one."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""As Debian's login gives it to root (/etc/login.defs, ENV_SUPATH), and containerd's client to a container of an image
that names none (oci/spec.go, defaultUnixEnv)."""
