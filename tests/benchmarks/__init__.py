"""How fast lookups are, measured beside httpx and aiohttp: run ``nox -s benchmark``, or ``python -m benchmarks``."""
