"""A Kubernetes cluster of one to nine nodes on one machine, for tests: real API server,
controllers, scheduler, kubelets and containerd, all in namespaces.

    python -m e2e.cluster up --nodes 3
    python -m e2e.cluster kubectl get nodes
    python -m e2e.cluster down

``places`` names everything, ``binaries`` compiles, ``machines`` are PID namespaces, ``node``
configures one, ``lifecycle`` puts it together.
"""
