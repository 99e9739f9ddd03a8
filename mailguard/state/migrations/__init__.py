"""The steps from one shape of the state database to the next, oldest first: ``v0001_*.py``, ``v0002_*.py``...

How to add a table or a column: change the ``sa.Table`` under ``mailguard/state``, then run

    scripts/migration "what it is for"

which compares the tables with the newest step and writes the next one; read it, and commit it with the change. A step
that has been released is never edited: databases out there have been through it. ``tests/state/test_migrate.py``
fails while tables and steps differ.
"""
