"""The files that an archive means: links are resolved among its own members, and never anywhere else."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torchloupe.errors import DataError

MOST_LINKED = 1_000_000
"""Entries reached through links of folders, at most: forty small links can mean a million million files."""
MOST_HOPS = 40
"""Links on the way to one file, at most, as in Linux."""
DEEPEST = 100
"""Folders within folders, at most."""
LONGEST = 4096
"""Characters of a name or of a link's target, at most, as in Linux."""

Path = tuple[str, ...]


@dataclass(frozen=True)
class File:
    """A member with bytes of its own; `place` says which."""

    place: int


@dataclass(frozen=True)
class Link:
    """A symbolic link, as it was written."""

    target: str


@dataclass(frozen=True)
class Lost:
    """What cannot be read, and why."""

    why: str


Node = File | Link | Lost
OUT = Lost("a link that leads out of the archive")
NOWHERE = Lost("a link to nothing in the archive")
RING = Lost("a link that leads back to itself")
OUTSIDE = Lost("its name leads out of the archive")
DEEP = Lost(f"more than {DEEPEST} folders deep")


def inside(name: str) -> Path | None:
    """Split a member's name; None where it leads out of the archive, or is longer than any system's.

    >>> inside("./cat//1.png"), inside("../1.png"), inside("/cat/1.png")
    (('cat', '1.png'), None, None)
    """
    parts = tuple(part for part in name[: LONGEST + 1].split("/") if part not in ("", "."))
    bad = name.startswith("/") or ".." in parts or len(name) > LONGEST or len(parts) > DEEPEST
    return None if bad or not parts else parts


@dataclass
class Tree:
    """Members by path; a later one takes the place of an earlier one, as when an archive is extracted."""

    nodes: dict[Path, Node] = field(default_factory=dict)
    outside: dict[str, Lost] = field(default_factory=dict)
    """Names that lead out of the archive or too deep, which are never followed."""

    def add(self, name: str, node: Node) -> None:
        """Put a member into its place.

        >>> tree = Tree()
        >>> tree.add("cat/1.png", File(0))
        >>> dict(tree.files())
        {'cat/1.png': File(place=0)}
        """
        path = inside(name)
        if path is None:
            self.outside[name[:LONGEST]] = OUTSIDE if name.startswith("/") or ".." in name else DEEP
        else:
            self.nodes[path] = node

    def same_as(self, name: str) -> Node:
        """Return what a hard link to a name means now: what was there before it."""
        path = inside(name)
        return OUT if path is None else self.nodes.get(path, NOWHERE)

    def files(self) -> Iterator[tuple[str, File | Lost]]:
        """Yield (name, what is there) of each file, through links of files and folders; loops end.

        Raises:
            DataError: links of folders multiply beyond `MOST_LINKED`.
        """
        folders: dict[Path, dict[str, Node | None]] = {(): {}}  # None: a folder
        for path, node in self.nodes.items():
            for depth in range(1, len(path)):
                folders.setdefault(path[:depth], {})
                folders[path[: depth - 1]][path[depth - 1]] = None
            if path not in folders:
                folders[path[:-1]].setdefault(path[-1], node)
        yield from _Walk(folders).below((), "", frozenset())


@dataclass
class _Walk:
    """One walk through a tree whose folders are known."""

    folders: dict[Path, dict[str, Node | None]]
    linked: int = 0

    def below(
        self, folder: Path, shown: str, above: frozenset[Path], through: bool = False
    ) -> Iterator[tuple[str, File | Lost]]:
        for name, node in self.folders[folder].items():
            self._count(through)
            found = self.resolve((*folder, name)) if node is None or isinstance(node, Link) else node
            if not isinstance(found, tuple):
                yield shown + name, found
            elif len(above) >= DEEPEST:
                yield shown + name, DEEP
            elif found not in above and found != folder:  # else a loop: all of it is seen further up
                by_link = through or isinstance(node, Link)
                yield from self.below(found, f"{shown}{name}/", above | {folder}, by_link)

    def _count(self, through: bool) -> None:
        self.linked += through
        if self.linked > MOST_LINKED:
            raise DataError(too_many(MOST_LINKED))

    def resolve(self, path: Path) -> Path | File | Lost:
        """Follow links to a folder (its path), a file, or nothing."""
        here: Path = ()
        rest, hops = list(reversed(path)), 0
        while rest:
            part = rest.pop()
            if part == "..":
                if not here:
                    return OUT
                here = here[:-1]
                continue
            if here not in self.folders:  # a file, with more behind it
                return NOWHERE
            node = self.folders[here].get(part, NOWHERE)
            if isinstance(node, Link):
                hops += 1
                if hops > MOST_HOPS:
                    return RING
                if node.target.startswith("/") or len(node.target) > LONGEST:
                    return OUT
                rest += [step for step in reversed(node.target.split("/")) if step not in ("", ".")]
            elif node is None:
                here = (*here, part)
            elif rest:
                return NOWHERE
            else:
                return node
        return here


def too_many(most: int) -> str:
    """Say that links of folders multiply.

    >>> too_many(1000)
    'its links of folders lead to more than 1,000 files and folders. Remove those that lead to one another.'
    """
    return f"its links of folders lead to more than {most:,} files and folders. Remove those that lead to one another."
