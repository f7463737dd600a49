import pytest

from runtime.errors import InvalidArgument
from shim.contract import identifiers


@pytest.mark.parametrize("name", ["a", "A9", "k8s.io", "a.b_c-d", "0" * 76, "moby", "a1-2"])
def test_what_containerd_accepts_is_accepted(name: str):
    assert identifiers.check("id", name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a..b", "a-", "-a", "a/b", "../a", "a b", "a\n", "\u00e4", "\u0661", "0" * 77, "a--b", "a.-b"],
)
def test_what_containerd_refuses_is_refused_with_the_fields_name(name: str):
    with pytest.raises(InvalidArgument, match=r"^exec_id: found "):
        identifiers.check("exec_id", name)
