"""What was tried, and what survived."""

from dataclasses import dataclass, field


@dataclass
class Tally:
    """Trials of one kind."""

    kind: str
    tried: int = 0
    fallen: list[str] = field(default_factory=list)

    def add(self, trial: str, faults: list[str]) -> None:
        """Count one trial; it survived where there are no faults."""
        self.tried += 1
        if faults:
            self.fallen.append(f"{trial}: {'; '.join(faults)}")

    @property
    def row(self) -> str:
        """Its line in the table.

        >>> Tally("a", 3, ["x"]).row
        '| a | 3 | 2 |'
        """
        return f"| {self.kind} | {self.tried} | {self.tried - len(self.fallen)} |"
