"""What checks the shapes in annotations while tests run: `--jaxtyping-packages` in pyproject.toml names it."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int is a float, as for type checkers."""
