"""Turns specialisation of code (PEP 659) off and on, where the interpreter is our own (heap/specialize.c).

Specialised code needs less time, by a quarter for requests over a socket. To specialise it, the interpreter writes to
its instructions, and a pod server that did so would copy their pages. So the spawner has it done while it imports and
warms up, and turns it off before it forks: pod servers execute what has been specialised, and write to no code.
"""


def turn(*, on: bool) -> None:
    """Specialise code from now on, or no more. Does nothing in any other Python."""
    try:
        from _specialize import set_specializing  # type: ignore[import-not-found]
    except ImportError:
        return
    set_specializing(on)
