#!/usr/bin/env python3
"""Measure a boot from Start to the application's first instruction under systemd, and its end until the task's exit.

Usage: hack/bench-boot.py --rootfs DIR [--prefix DIR] [--rounds N]

DIR is a root filesystem with systemd, for example from: mmdebstrap --variant=minbase --include=systemd bookworm DIR.
It is not changed. For comparison, crun alone boots the same root filesystem with the same mounts and the same unit,
except that the unit starts the application itself. The runs alternate. Needs root and `hack/install.sh --prefix DIR`.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HACK = Path(__file__).resolve().parent
STAMP = ["/bin/date", "+%s%N"]
PATIENCE_S = 30.0


def parse() -> argparse.Namespace:
    assert __doc__ is not None
    cache = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prefix", type=Path, default=cache / "prefix", help="where the shim is installed")
    parser.add_argument("--rootfs", type=Path, required=True, help="root filesystem with systemd")
    parser.add_argument("--oci", default=shutil.which("crun") or "/usr/bin/crun", help="OCI runtime (absolute path)")
    parser.add_argument("--rounds", type=int, default=15, help="boots of each; default 15")
    return parser.parse_args()


def milliseconds(samples: list[float]) -> str:
    """Format the median and the range."""
    return f"{statistics.median(samples) * 1e3:8.1f} ms   ({min(samples) * 1e3:.1f} to {max(samples) * 1e3:.1f})"


def boot_spec(place, bundle, args, oci):  # type: ignore[no-untyped-def]
    """The spec that our plan makes for `args`, and the files of its run directory."""
    from benchmark.place import spec as plain_spec

    from runtime import host
    from runtime.config import parse as parse_config
    from runtime.image import image
    from runtime.rich import plan, policy
    from runtime.spec.identity import Identity

    config = parse_config(f'version = 1\n[runtime]\nbinary = "{oci}"\n[rich]\nmode = "systemd"\n', source="bench")
    found = plain_spec(args, f"{place.cgroup}/{bundle.id}", rich=True)
    found["process"]["env"] = ["PATH=/usr/bin:/bin"]
    found["process"]["noNewPrivileges"] = False
    kept = (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT"
        " KILL AUDIT_WRITE"
    )
    names = [f"CAP_{name}" for name in kept.split()]
    found["process"]["capabilities"] = {kind: names for kind in ("bounding", "effective", "permitted")}
    found["annotations"] = {"pouchrich.io/mode": "systemd"}
    directory = f"{bundle.path}/run-directory"
    facts = image.read_facts(str(place.lower), found)
    made = plan.make(
        found,
        policy.choose(found, config, Identity.from_spec(found, namespace="bench", container_id=bundle.id)),
        config=config,
        facts=facts,
        terminal=False,
        host=host.read(),
        run_dir=directory,
    )
    return found, made, directory


def run_crun(place, oci):  # type: ignore[no-untyped-def]
    """Boot with crun alone; return the seconds from its start to the application's first instruction."""
    from benchmark.place import mount

    from runtime import libexec, rundir
    from runtime.cgroup import delegation
    from runtime.oci import argv

    bundle = place.bundle(STAMP, rich=True)
    _, made, directory = boot_spec(place, bundle, STAMP, oci)
    spec = dict(made.apply(boot_spec(place, bundle, STAMP, oci)[0]))
    spec["process"] = {**spec["process"], "terminal": False}
    (bundle.path / "config.json").write_text(json.dumps(spec))
    inside = delegation.prepare(made.cgroup)
    rundir.make(directory)
    rundir.add_programs(directory, made.helpers)
    rundir.fill(directory, made.boot)
    unit = next(file for file in made.boot.files if "ExecStart=" in file.text)
    direct = unit.text.replace("/run/pouchrich/launch app", "/bin/sh -c '/bin/date +%%s%%N >/first'")
    direct = direct.replace("StandardError=tty", "StandardError=null")
    os.chmod(f"{directory}/{unit.name}", 0o644)
    Path(directory, unit.name).write_text(direct)
    mount("overlay", bundle.rootfs, "overlay", ",".join(bundle.overlay_options))
    root = ["--root", "/run/bench/crun"]
    null = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    create = [oci, *root, "create", "--bundle", str(bundle.path), bundle.id]
    if inside is not None:
        create = argv.entering(libexec.path("launch"), inside, create)
    subprocess.run(create, check=True, pass_fds=() if inside is None else (inside,), **null)
    began = time.time()
    subprocess.run([oci, *root, "start", bundle.id], check=True, **null)
    stamp = Path(bundle.rootfs, "first")
    while not (stamp.exists() and stamp.read_text().strip()):
        if time.time() - began > PATIENCE_S:
            sys.exit("bench-boot: crun alone did not boot it")
        time.sleep(0.002)
    took = int(stamp.read_text()) / 1e9 - began
    subprocess.run([oci, *root, "delete", "--force", bundle.id], check=True, **null)
    if inside is not None:
        os.close(inside)
    delegation.remove(made.cgroup, patience_s=1.0)
    subprocess.run(["umount", bundle.rootfs], check=True)
    rundir.remove(directory)
    bundle.remove()
    return took


async def run_shim(place, shim):  # type: ignore[no-untyped-def]
    """Boot with our shim; return the seconds from Start to the first instruction, and from then to the end of Wait."""
    from benchmark.contest import Task

    bundle = place.bundle(STAMP, rich=True)
    spec, _, _ = boot_spec(place, bundle, STAMP, shim.oci)
    (bundle.path / "config.json").write_text(json.dumps(spec))
    output = bundle.path / "output"
    output.touch()
    address, _ = await asyncio.to_thread(shim.start, bundle)
    task = await Task.connect(shim, bundle, address.removeprefix("unix://"))
    await task.create(stdout=str(output))
    began = time.time()
    await task.start()
    await task.wait()
    ended = time.time()
    first = int(output.read_text()) / 1e9
    await task.delete()
    await task.shutdown()
    await asyncio.to_thread(shim.delete, bundle)
    bundle.remove()
    return first - began, ended - first


def main() -> None:
    given = parse()
    if os.geteuid() != 0:
        sys.exit("bench-boot: needs root")
    sys.path.insert(0, str(HACK))
    import bench

    wanted = (given.prefix / "lib" / "pouchrich" / "current").resolve() / "venv"
    if Path(sys.prefix) != wanted:
        os.execv(wanted / "bin" / "python3", [str(wanted / "bin" / "python3"), __file__, *sys.argv[1:]])
    bench.use_installed_python(given.prefix.resolve())
    from benchmark import place as places
    from benchmark.contest import Shim

    places.enter()
    place = places.Place()
    place.lower = given.rootfs.resolve()
    shim = Shim("ours", str(given.prefix.resolve() / "bin" / "containerd-shim-pouchrich-v2"), given.oci)
    alone, boots, ends = [], [], []
    try:
        for round_number in range(given.rounds + 1):
            crun = run_crun(place, given.oci)
            boot, end = asyncio.run(run_shim(place, shim))
            if round_number:  # the first warms the caches
                alone.append(crun)
                boots.append(boot)
                ends.append(end)
    finally:
        place.close()
    print(f"{given.rounds} boots each, alternating")
    print(f"Start to first instruction, crun alone:   {milliseconds(alone)}")
    print(f"Start to first instruction, our shim:     {milliseconds(boots)}")
    print(f"ratio of the medians:                     {statistics.median(boots) / statistics.median(alone):8.2f}")
    print(f"last instruction to the task's exit:      {milliseconds(ends)}")


if __name__ == "__main__":
    main()
