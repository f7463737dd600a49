"""shim.task.rich: what must not fail a container."""

from types import SimpleNamespace

from runtime.besides import Besides
from shim.task.rich import RichLife, Subject


def life(bundle):
    decided = SimpleNamespace(more=Besides(), made=SimpleNamespace(cgroup=None))
    about = Subject("c", "ns", str(bundle), "/", {})
    tools = SimpleNamespace(reaper=None)
    return RichLife(about, decided, tools, application=None, hooks=None, agents=None)


def test_a_started_container_is_started_although_its_state_cannot_be_kept(tmp_path, caplog):
    life(tmp_path / "full-disk").started()
    assert "state.json" in caplog.text


def test_the_state_is_kept_for_the_operators_command(tmp_path):
    life(tmp_path).started()
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600
