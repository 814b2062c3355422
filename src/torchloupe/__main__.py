"""The command line as a process: `torchloupe`, and `python -m torchloupe`."""

import os
import sys

if __name__ == "__main__" and sys.path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109 (an import would look there)
    del sys.path[0]  # the folder that it is called in may be a stranger's: nothing is imported from there

from torchloupe.runtime import signals


def main() -> None:
    """Run the command line in this process and end it: signals are handled before anything slow is imported."""
    with signals.handled():
        try:
            from torchloupe.cli import main as command_line

            command_line()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except KeyboardInterrupt:
            code = 130
        signals.finish(code)


if __name__ == "__main__":
    main()
