"""The history of the tables, one numbered file per step in `versions/`, run by `store/migrate.py` only.

A change of `store/tables.py` comes with the next file, written by hand. They go forward only: an older
state comes from a backup. Grants and policies are no part of them: `store/privileges.py` compares those
with the tables at every start.
"""
