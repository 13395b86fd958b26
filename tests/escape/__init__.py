"""The escape suite: what a workload tries in order to get out, and what must stop it.

``attempts`` is what runs inside a workload, ``bait`` and ``neighbour`` what is there to be reached, and ``stage``
puts them on a host and collects how each attempt ended. The tests are in ``tests/host`` and ``tests/vm``.
"""
