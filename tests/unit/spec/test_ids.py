"""runtime.spec.ids: from a container's ids to the host's."""

import pytest

from runtime.errors import InvalidArgument
from runtime.spec import ids

MAPPED = {
    "linux": {
        "uidMappings": [
            {"containerID": 0, "hostID": 200000, "size": 1000},
            {"containerID": 1000, "hostID": 500, "size": 1},
        ],
        "gidMappings": [{"hostID": 300000, "size": 65536}],
    }
}


@pytest.mark.parametrize(("uid", "expected"), [(0, 200000), (999, 200999), (1000, 500), (1001, 1001)])
def test_a_user_is_found_in_the_range_that_has_it(uid, expected):
    assert ids.host_uid(MAPPED, uid) == expected


def test_groups_have_mappings_of_their_own_and_a_missing_number_is_zero():
    assert (ids.host_gid(MAPPED, 7), ids.host_uid({}, 7), ids.host_gid({"linux": {}}, 7)) == (300007, 7, 7)


@pytest.mark.parametrize("entry", [3, {"containerID": "0", "hostID": 1, "size": 1}, {"size": None}])
def test_a_malformed_mapping_is_named(entry):
    with pytest.raises(InvalidArgument, match=r"linux\.uidMappings\[0\]"):
        ids.host_uid({"linux": {"uidMappings": [entry]}}, 0)
