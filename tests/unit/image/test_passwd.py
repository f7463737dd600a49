"""runtime.image.passwd: an image's users, whatever the image puts there."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidArgument
from runtime.image import passwd
from runtime.image.passwd import User

PASSWD = """\
# comment
root:x:0:0:root:/root:/bin/sh
+nis::::::
broken:x:1:1
web:x:1000:1000::/srv:/bin/sh
web:x:1:1::/:/bin/sh
huge:x:4294967295:0::/:/bin/sh
nine:x:9:9::/:/bin/sh
4242:x:0:0::/root:/bin/sh
+nis:x:0:0::/root:/bin/sh
-gone:x:0:0::/root:/bin/sh
"""
GROUP = """\
root:x:0:
adm:x:4:syslog,web
web:x:1000:web
www:x:33:web
fake:x:34:webmaster
"""


@pytest.fixture
def image(tmp_path):
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(PASSWD)
    (etc / "group").write_text(GROUP)
    return tmp_path


def resolve(image, wanted):
    root = os.open(image, os.O_PATH | os.O_DIRECTORY)
    try:
        return passwd.resolve(root, wanted)
    finally:
        os.close(root)


@pytest.mark.parametrize(
    ("wanted", "user"),
    [
        ("root", User(0, 0, (), "root", "/root")),
        ("web", User(1000, 1000, (4, 33), "web", "/srv")),
        ("1000", User(1000, 1000, (4, 33), "web", "/srv")),
        ("web:adm", User(1000, 4, (), "web", "/srv")),
        ("web:77", User(1000, 77, (), "web", "/srv")),
        ("9", User(9, 9, (), "nine", "/")),
        ("77", User(77)),
        ("77:33", User(77, 33)),
        ("4242", User(4242)),
    ],
)
def test_users_resolve_as_runc_does_it(image, wanted, user):
    assert resolve(image, wanted) == user


@pytest.mark.parametrize("wanted", ["nobody", "huge", "broken", "4294967295", "web:nobody", "+nis", "-gone", "\udcff"])
def test_who_is_not_there_is_an_invalid_argument(image, wanted):
    with pytest.raises(InvalidArgument, match=r"(user|group): found .*, allowed a number or a name"):
        resolve(image, wanted)


def test_an_image_without_the_files_has_numbers_only(tmp_path):
    assert resolve(tmp_path, "5:6") == User(5, 6)
    with pytest.raises(InvalidArgument):
        resolve(tmp_path, "root")


def test_a_link_does_not_lead_out_of_the_image(image):
    (image / "etc" / "passwd").unlink()
    (image / "etc" / "passwd").symlink_to("/../../../../../../etc/passwd.host")
    (image / "etc" / "passwd.host").write_text("inside:x:5:5::/:/bin/sh\n")
    assert resolve(image, "inside").uid == 5
    (image / "etc" / "passwd.host").unlink()
    (image / "etc" / "passwd").unlink()
    (image / "etc" / "passwd").symlink_to(__file__)
    with pytest.raises(InvalidArgument, match="user: found 'root'"):
        resolve(image, "root")


@pytest.mark.parametrize("kind", ["fifo", "directory", "large", "loop", "zero"])
def test_a_file_that_is_no_such_file_is_refused_and_nothing_blocks(image, kind):
    path = image / "etc" / "passwd"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to("passwd")
    elif kind == "zero":
        path.symlink_to("/dev/zero")
        (image / "dev").mkdir()
        os.mkfifo(image / "dev" / "zero")
    else:
        path.write_bytes(b"a:x:1:1::/:\n" * 100_000)
    with pytest.raises(InvalidArgument, match="/etc/passwd in the container: "):
        resolve(image, "root")


def test_the_number_of_groups_is_bounded(image):
    (image / "etc" / "group").write_text("".join(f"g{n}:x:{n}:web\n" for n in range(5000, 8000)))
    assert len(resolve(image, "web").groups) == passwd.MAX_GROUPS


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_give_an_answer_or_a_refusal(tmp_path_factory, users, groups):
    image = tmp_path_factory.mktemp("image")
    (image / "etc").mkdir()
    (image / "etc" / "passwd").write_bytes(b"root:x:0:0::/:\n" + users)
    (image / "etc" / "group").write_bytes(groups)
    assert resolve(image, "root").uid == 0
