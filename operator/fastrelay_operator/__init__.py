"""The operator: turns `MoQRelay` objects into relay pods and what belongs to them.

``reconcile`` decides, from what is wanted and what is there, without I/O; everything else here
fetches, watches or carries out.
"""
