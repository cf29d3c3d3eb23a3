from testinfra.host import Host

testinfra_hosts = ["ansible://all"]


def test_nothing_of_the_cluster_is_scraped(host: Host) -> None:
    assert not host.file("/etc/prometheus/muster/targets/molecule.json").exists
    assert not host.file("/var/lib/prometheus/node-exporter/muster-molecule-r0.prom").is_symlink
    assert host.service("prometheus").is_running
