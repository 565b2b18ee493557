"""Which veth leads to a pod."""

import ipaddress

import pytest

from fastrelay.agent.discovery import NotFoundError, Scan, Veth

ONE, TWO = Veth(5, "veth5", 0, 2), Veth(7, "veth7", 1, 2)


def scan(**found):
    return Scan(2, {ipaddress.ip_address(key): value for key, value in found.items()})


def test_by_any_of_its_addresses():
    look = scan(**{"10.0.0.2": [ONE], "fd00::2": [ONE], "10.0.0.3": [TWO]})
    assert look.find(["10.0.0.2"]) == ONE
    assert look.find(["192.0.2.1", "fd00:0::2"]) == ONE
    assert look.find(["10.0.0.2", "fd00::2"]) == ONE


@pytest.mark.parametrize("addresses", [["10.0.0.2"], ["10.0.0.3", "10.0.0.4"]])
def test_two_that_have_it_are_one_too_many(addresses):
    look = scan(**{"10.0.0.2": [ONE, TWO], "10.0.0.3": [ONE], "10.0.0.4": [TWO]})
    with pytest.raises(NotFoundError, match="more than one veth leads there: veth5, veth7"):
        look.find(addresses)


def test_none_that_has_it():
    with pytest.raises(NotFoundError, match=r"10\.0\.0\.9: none of 2 veths leads to it"):
        scan(**{"10.0.0.2": [ONE]}).find(["10.0.0.9"])
    with pytest.raises(NotFoundError, match="none of 0 veths"):
        Scan(0, {}).find(["10.0.0.9"])


def test_no_address_anywhere_is_a_missing_permission():
    with pytest.raises(NotFoundError, match="lacks CAP_NET_ADMIN"):
        scan().find(["10.0.0.2"])
