"""From a spec, configuration and image to a plan: pure decisions.

policy       whether it is rich, and in which mode, by spec and configuration
mode         the mode that its image can have
plan         the whole plan
extras       what it has beside its init and its application
environment  which places have the pod's environment: env_file, env_pam, env_units
lxcfs        the container's own /proc/meminfo and the like
unit_claims  what is where systemd would take it for a unit of ours
"""
