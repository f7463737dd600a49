"""Small files of the kernel, for `doctor`: their text, and the version in a release's name."""


def text(path: str) -> str:
    """The file's text without surrounding blanks, "" if it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def version(release: str) -> tuple[int, ...]:
    """Major and minor number of a release like 6.18.5-cloud or 6.3+deb12."""
    numbers = release.split("-", 1)[0].split("+", 1)[0].split(".")[:2]
    return tuple(int(one) for one in numbers if one.isdecimal())
