"""The resource `MoQRelay`: models with defaults, and errors that say what to write instead.

The relay, the local runtime and the operator read the same models; the
CustomResourceDefinition is generated from them.
"""
