"""runtime.linux.apparmor: which profiles the kernel has loaded."""

import pytest

from runtime.errors import FailedPrecondition
from runtime.linux import apparmor


@pytest.fixture
def profiles(tmp_path):
    file = tmp_path / "profiles"
    file.write_text("pouchrich (enforce)\na profile with blanks (complain)\n/usr/bin/x//child (unconfined)\nbroken\n")
    return str(file)


def test_profiles_are_known_by_their_whole_names(profiles):
    assert apparmor.loaded(profiles) == {"pouchrich", "a profile with blanks", "/usr/bin/x//child"}


def test_only_what_is_not_loaded_is_refused_and_named_with_the_key_and_the_way_out(profiles):
    apparmor.require("pouchrich", source="f: key", path=profiles)
    with pytest.raises(FailedPrecondition) as caught:
        apparmor.require("pouch", source="f: key", path=profiles)
    assert str(caught.value) == (
        f'f: key: found "pouch", which the kernel has not loaded, allowed a profile of {profiles}:'
        " `apparmor_parser --replace` with the file of pouch"
    )
    assert "`pouchrich node install` loads it" in apparmor.way_out("pouchrich")


def test_where_it_cannot_be_seen_the_kernel_is_left_to_judge(tmp_path):
    assert apparmor.loaded(str(tmp_path / "none")) is None
    apparmor.require("x", source="f", path=str(tmp_path / "none"))
