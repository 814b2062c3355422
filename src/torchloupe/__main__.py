"""`python -m torchloupe` is the same as `torchloupe`."""

import os
import sys

if sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109 (an import would look in that folder)
    del sys.path[0]  # the folder that it is called in may be a stranger's: nothing is imported from there

from torchloupe.cli import main

main()
