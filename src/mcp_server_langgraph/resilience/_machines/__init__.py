"""The layer's machines, which decide: pure and synchronous, with ``now`` and chance as arguments.

They import the standard library, errors and each other; none of them knows a policy.
"""
