"""Where the shim keeps files on a node. Files below RUN are gone after a reboot, files below STATE have to outlive it.

The fast path of `start`, which imports none of this, and the native program repeat some of these paths
(`tests/unit/test_one_home.py` compares them).
"""

RUN = "/run/pouchrich"
"""Also where the spawner listens (`shim.spawner.request`)."""

STATE = "/var/lib/pouchrich"

BOOTS = f"{RUN}/boot"
"""The queue of inits that boot (`runtime.init.boot_tickets`)."""

BUNDLES = f"{RUN}/bundles"
"""A symbolic link to the bundle of each rich container (`runtime.index`)."""

CONTAINERS = f"{RUN}/containers"
"""The run directory of each rich container (`runtime.rundir`)."""

OCI_STATE = f"{RUN}/runtime"
"""The OCI runtime's own state (its `--root`), where `runtime.root` does not say otherwise."""

ENDED = f"{RUN}/ended"
"""What is kept of containers that have not ended as they should (`runtime.ended`)."""

METRICS = f"{RUN}/metrics"
"""Counts and times that outlive a pod (`runtime.measured`)."""

PODS = f"{RUN}/pods"
"""The bundles of pods' further containers, where containerd calls the shim only for the sandbox (`runtime.members`)."""

POSTSTOP = f"{RUN}/poststop"
"""What poststop hooks need of a container that has ended (`runtime.hooks.pinned`)."""

POSTSTOP_SWEPT = f"{POSTSTOP}/.swept"
"""Its modification time is that of the last sweep: for owed poststop hooks, members of dead pod servers, and replaced
versions (`shim.spawner.child`)."""

RECORDS = f"{STATE}/poststop"
"""The records of poststop hooks (`runtime.hooks.journal`)."""
