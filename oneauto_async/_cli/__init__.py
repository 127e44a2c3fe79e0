"""The command line, ``oneauto-async``. Everything that needs the extra ``cli`` is imported only when it runs."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from .app import run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write('the command line needs its extra: pip install "oneauto-async[cli]"\n')
        return 2
    except KeyboardInterrupt:  # while it is loaded
        sys.stderr.write("error: interrupted\n")
        return 130
    return run(is_last=_is_called_by_the_program())


def _is_called_by_the_program() -> bool:
    """Tell whether `main` was called by the script that was started, which has nothing to do but to end with its code.

    It is called by `main` alone, whose caller it looks at.
    """
    return sys._getframe(2).f_globals.get("__name__") == "__main__"
