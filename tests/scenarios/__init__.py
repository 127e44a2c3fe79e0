"""How well lookups use a key's limit, in virtual time: run ``nox -s scenarios``, or ``python -m scenarios``."""
