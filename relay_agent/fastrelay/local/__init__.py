"""A relay, a publisher and viewers on one Linux host, each in a network namespace of its own.

Network namespaces stand for pods: what runs here is what runs on a cluster, without the
cluster. Root is needed. Nothing outside namespaces named ``fastrelay-<name>-...`` and the
files of that name in /run/fastrelay/local is touched.
"""
