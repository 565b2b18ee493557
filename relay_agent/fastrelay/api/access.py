"""How an API server is found: as every pod finds it, elsewhere by KUBECONFIG."""

from __future__ import annotations

from kubernetes.aio import config
from kubernetes.aio.client import Configuration


async def find() -> Configuration:
    """:raises kubernetes.aio.config.ConfigException: there is no trace of one."""
    found = Configuration()
    try:
        config.load_incluster_config(client_configuration=found)
    except config.ConfigException:
        await config.load_kube_config(client_configuration=found)
    # Else each request has a thread look for proxies; that of the kubeconfig holds all the same.
    found.client_session_kwargs = {"trust_env": False}
    return found
