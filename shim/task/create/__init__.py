"""From a Create request to a container.

create     the steps, each with its undo
options    the request's runtime options, and the configuration that they name
member     the bundle that the container is made in
mounting   the root file system: mounted and examined outside the event loop
low_pids   what to say where a limit on processes may have been too low
"""
