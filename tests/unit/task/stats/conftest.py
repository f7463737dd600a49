from tests.unit.cgroup.conftest import tree

__all__ = ["tree"]
