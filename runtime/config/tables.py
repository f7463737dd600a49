"""Keys, and tables made of keys: the building blocks of `runtime.config.schema`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from runtime.config import kinds
from runtime.config.kinds import Kind, Refused, refuse


class Required:
    """The default of a key that must be set."""


REQUIRED = Required()


class Key(NamedTuple):
    """A key. `default` is as written in a file; None: the key is unset, and `unset` says what that means."""

    name: str
    kind: Kind
    default: object
    meaning: str
    unset: str = ""

    @property
    def attribute(self) -> str:
        """The attribute's name in `runtime.config.model`."""
        return self.name.rpartition(".")[2].replace("-", "_") + self.kind.suffix

    def value(self, given: Mapping[str, object], key: str) -> Any:
        """Read this key from its table; `key` is its full name for errors. Raises Refused."""
        name = self.name.rpartition(".")[2]
        if name in given:
            return self.kind.read(given[name], key)
        if self.default is REQUIRED:
            raise Refused(key, "nothing", self.kind.allowed)
        return None if self.default is None else self.kind.read(self.default, key)


def check_names(given: Mapping[str, object], known: tuple[str, ...], prefix: str) -> None:
    """Raise Refused for the first name in `given` that is not in `known`."""
    for name in given:
        if name not in known:
            hint = kinds.suggestion(name, known)
            raise Refused(f"{prefix}{name}", "an unknown key", ", ".join(known) + hint)


def table(keys: tuple[Key, ...], build: Callable[..., Any]) -> Kind:
    """A table with these keys, turned into `build(**attributes)`."""
    names = tuple(key.name for key in keys)
    allowed = f"a table of the keys {', '.join(names)}"

    def read(value: object, at: str) -> Any:
        if not isinstance(value, Mapping):
            raise Refused(at, kinds.type_of(value), allowed)
        check_names(value, names, f"{at}.")
        return build(**{key.attribute: key.value(value, f"{at}.{key.name}") for key in keys})

    def plain(value: Any) -> dict[str, object]:
        read_back = {key.name: (key, getattr(value, key.attribute)) for key in keys}
        return {name: key.kind.plain(one) for name, (key, one) in read_back.items() if one is not None}

    return Kind("table", allowed, read, plain=plain, plural=f"tables of the keys {', '.join(names)}")


def named_tables(item: Kind, stem: str) -> Kind:
    """A list of at most 64 tables with distinct names; a table without a name is called `STEM-N`, from 1."""

    def read(value: object, key: str) -> tuple[Any, ...]:
        if isinstance(value, list):
            value = [
                {"name": f"{stem}-{index}", **one} if isinstance(one, Mapping) else one
                for index, one in enumerate(value, 1)
            ]
        items: tuple[Any, ...] = plain.read(value, key)
        seen: set[str] = set()
        for index, one in enumerate(items):
            if one.name in seen:
                refuse(f"{key}[{index}].name", one.name, "a name that no other entry of the list has")
            seen.add(one.name)
        return items

    plain = kinds.list_of(item, at_most=64)
    return Kind("list of tables", plain.allowed, read, plain=plain.plain)
