"""Who may connect."""

import os

import pytest

from runtime.linux.pidfd import Peer
from shim.ttrpc.server import same_owner


@pytest.mark.parametrize(("uid", "gid", "let_in"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_only_our_own_user_and_group_are_let_in(uid: int, gid: int, let_in: bool) -> None:
    assert same_owner(Peer(1, os.geteuid() + uid, os.getegid() + gid)) is let_in
