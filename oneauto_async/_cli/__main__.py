"""``python -m oneauto_async._cli``: the command line without its installed script."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
