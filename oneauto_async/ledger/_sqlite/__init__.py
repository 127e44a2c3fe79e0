"""A ledger in an SQLite file: the one room that knows sqlite3, loaded when a file is opened."""
