import pytest

from runtime.linux import overlay


def test_layers_come_apart_at_bare_colons_only():
    assert overlay.lowerdirs(["a=b", r"lowerdir=/x\:y:/z\\:/w::/data"]) == (
        r"/x\:y",
        r"/z\\",
        "/w",
        "",
        "/data",
    )
    assert overlay.lowerdirs(["upperdir=/u"]) == ()


@pytest.mark.parametrize("path", ["/plain", "/co:lon", "/com,ma", "/back\\slash", "/all\\:,"])
def test_escaping_a_path_makes_one_layer_that_stands_for_it(path):
    layers = overlay.lowerdirs(["lowerdir=" + overlay.escape(path) + ":/next"])
    assert [overlay.unescape(layer) for layer in layers] == [path, "/next"]


def test_layers_become_relative_to_the_directory_they_share():
    directory, options = overlay.relative(["index=off", "lowerdir=/s/1/fs:/s/22/fs::/s/3/fs", "upperdir=/s/9/fs"])
    assert directory == "/s"
    assert options == ("index=off", "upperdir=/s/9/fs", "lowerdir=1/fs:22/fs::3/fs")


def test_the_shared_directory_is_unescaped_and_the_layers_are_not():
    directory, options = overlay.relative([r"lowerdir=/s\:t/a\:b:/s\:t/c"])
    assert (directory, options) == ("/s:t", (r"lowerdir=a\:b:c",))


def test_a_layer_inside_another_is_relative_to_the_parent_of_both():
    assert overlay.relative(["lowerdir=/s/a:/s/a/b"]) == ("/s", ("lowerdir=a:a/b",))


@pytest.mark.parametrize(
    "lower", ["lowerdir=/a:/b", "lowerdir=rel:/s/b", "lowerdir=//s/a:/s/b", "lowerdir=", "upperdir=/u"]
)
def test_layers_that_share_nothing_stay_as_they_were(lower):
    assert overlay.relative(["x", lower]) == ("", ("x", lower))
