"""`python -m torchloupe` is the same as `torchloupe`."""

from torchloupe.cli import main

main()
