"""The two files of a new database, as ARCHITECTURE.md's recipe asks for them: an SQLite file that
calls itself ``toy``, so that nothing written for SQLite applies to it.
"""
