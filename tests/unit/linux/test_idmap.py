import pytest

from runtime.errors import InvalidArgument
from runtime.linux import idmap


def test_a_map_is_written_as_the_kernel_wants_it():
    assert idmap.parse_map("0:100000:65536,65536:0:1") == "0 100000 65536\n65536 0 1\n"
    assert idmap.parse_map("0:0:4294967295") == "0 0 4294967295\n"


@pytest.mark.parametrize(
    "text",
    ["", "0:1", "0:1:2:3", "0:1:x", "-1:0:1", "0:1:2,", "0:0:0", "4294967295:0:2", "0:0:4294967297", "٣:0:1"],
)
def test_a_map_that_is_none_is_refused_by_name(text):
    with pytest.raises(InvalidArgument, match="id map"):
        idmap.parse_map(text)
