"""Every form that the tables ever had, and the steps from each to the next, in ``versions/``.

A change of ``tables.py`` needs a new file there; a test holds the two together, and another takes stores of
every older revision, with what is in them, to the newest.
"""
