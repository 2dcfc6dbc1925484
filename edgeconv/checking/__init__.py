"""Will an artifact run with a version of a runtime, and on a target.

The answers come from tables measured of the real runtimes. ``base`` has the words, a module a kind of
artifact its ``CHECKER`` (found by the registry), ``target`` puts them together for a kind of device.
"""
