"""The end of a program's output, whatever its size."""

from dataclasses import dataclass, field

KEPT_BYTES = 64 * 1024
SHOWN_BYTES = 512
LINE_END = "; "
"""What replaces a line end in the text."""


@dataclass(slots=True)
class Tail:
    """Takes any number of bytes and keeps the last `limit`."""

    limit: int = KEPT_BYTES
    _kept: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        """Append `data`."""
        self._kept += data
        if len(self._kept) > self.limit:
            del self._kept[: -self.limit]

    def text(self, at_most: int = SHOWN_BYTES) -> str:
        """The last `at_most` bytes as text for one line of an error or log, at most that long in UTF-8.

        What is not UTF-8 becomes U+FFFD. Line ends become `; ` and other control characters `?`, because people who
        did not write the text see it on their terminals.
        """
        end = bytes(self._kept[-at_most:])
        if len(self._kept) > at_most:
            # A character whose beginning was cut off is left out rather than shown as garbage.
            for _ in range(3):
                if end and end[0] & 0xC0 == 0x80:
                    end = end[1:]
        lines = end.decode(errors="replace").strip().splitlines()
        shown = LINE_END.join("".join(c if c.isprintable() else "?" for c in line.rstrip()) for line in lines)
        encoded = shown.encode()[-at_most:]
        return encoded.decode(errors="ignore")
