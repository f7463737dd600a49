import re
from pathlib import Path

import pytest

from runtime.errors import InvalidArgument
from runtime.oci.choose import choose


def installed(directory: Path, *names: str) -> str:
    for name in names:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return str(directory)


def hybrid(directory: Path, controllers: str) -> str:
    file = directory / "cgroup.controllers"
    file.write_text(controllers)
    return str(file)


@pytest.mark.parametrize(
    ("names", "controllers", "expected", "reason"),
    [
        (("crun", "runc"), None, "crun", "crun works on this host"),
        (("crun", "runc"), "\n", "crun", "crun works on this host"),
        (("crun", "runc"), "memory hugetlb\n", "runc", r"crun refuses .* \(memory hugetlb\)"),
        (("runc",), None, "runc", "crun is not installed"),
        (("crun",), "memory\n", "crun", "runc is not installed"),
    ],
)
def test_crun_is_taken_where_it_works(
    tmp_path: Path, names: tuple[str, ...], controllers: str | None, expected: str, reason: str
):
    path = installed(tmp_path, *names)
    file = "/nowhere" if controllers is None else hybrid(tmp_path, controllers)
    found, why = choose("", source="x", hybrid=file, path=path)
    assert found == f"{path}/{expected}"

    assert re.search(reason, why)


def test_what_is_wanted_is_found_by_name_or_path(tmp_path: Path):
    path = installed(tmp_path, "youki")
    assert choose("youki", source="options.binary_name", path=path)[0] == f"{path}/youki"
    assert choose(f"{path}/youki", source="x", path="")[0] == f"{path}/youki"


def test_what_is_wanted_and_missing_is_named_with_its_source(tmp_path: Path):
    with pytest.raises(InvalidArgument, match=r"^/etc/c\.toml: runtime\.binary: found 'youki'"):
        choose("youki", source="/etc/c.toml: runtime.binary", path=str(tmp_path))
    with pytest.raises(InvalidArgument, match="neither crun nor runc"):
        choose("", source="x", path=str(tmp_path))
