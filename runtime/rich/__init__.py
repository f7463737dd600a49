"""Decide a container's plan from its spec, the configuration and the image. All decisions are pure.

policy       whether the container is rich, and which mode is asked for, by spec and configuration
mode         the mode that the image and the host allow
plan         the whole plan
confinement  the container's AppArmor profile
extras       what a rich container has besides its init and its application
environment  the files through which the pod's environment is passed on
env_file     that for login shells
env_pam      those for every session that PAM opens
env_units    those for the services of an init
lxcfs        the container's own /proc/meminfo and similar files
unit_claims  files that systemd would use instead of our units or as drop-ins for them
"""
