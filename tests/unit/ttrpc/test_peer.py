"""Who may connect."""

import os
import socket

import pytest

from shim.ttrpc.peer import Peer, peer_of, same_owner


def test_the_peer_of_a_socket_pair_is_this_process() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert peer_of(left) == Peer(os.getpid(), os.geteuid(), os.getegid())


@pytest.mark.parametrize(("uid", "gid", "let_in"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_only_our_own_user_and_group_are_let_in(uid: int, gid: int, let_in: bool) -> None:
    assert same_owner(Peer(1, os.geteuid() + uid, os.getegid() + gid)) is let_in
