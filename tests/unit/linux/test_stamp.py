import os

from runtime.linux import stamp


def test_it_is_the_same_while_the_file_is(tmp_path):
    path = tmp_path / "file"
    path.write_text("one")
    first = stamp.of_file(str(path))
    assert first
    assert stamp.of_file(str(path)) == first


def test_it_is_another_when_the_file_is_changed_replaced_or_gone(tmp_path):
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("one")
    seen = [stamp.of_file(str(path))]
    path.write_text("longer")
    seen.append(stamp.of_file(str(path)))
    other.write_text("longer")
    os.rename(other, path)
    seen.append(stamp.of_file(str(path)))
    path.unlink()
    seen.append(stamp.of_file(str(path)))
    assert len(set(seen)) == 4
    assert seen[-1] == ()
