"""How the documentation is built: ``sphinx-build -W docs docs/_build``. Nothing here needs the network."""

import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from oneauto_async import __version__  # noqa: E402  # found only after the line above, if it is not installed

project = "oneauto-async"
author = "The oneauto-async authors"
copyright = author  # noqa: A001  # the name Sphinx gives it
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"oneauto-async {release}"

myst_heading_anchors = 3

# Docstrings write `Name` for a thing of this library; what Sphinx does not find stays plain code.
default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False


def _show_factories(*details: Any) -> tuple[str | None, str | None]:
    """Write an ellipsis for the marker that attrs leaves where a default is made anew for each object."""
    *_, signature, returned = details
    return (signature and signature.replace("= NOTHING", "= …"), returned)


def setup(app: Sphinx) -> None:
    """Connect what is defined here; Sphinx calls it."""
    app.connect("autodoc-process-signature", _show_factories)
