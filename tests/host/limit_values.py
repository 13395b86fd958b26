"""Two values of each directive of resource control, between which a running unit is changed.

They hold on any host with two CPUs, one memory node and a disk ``/dev/vda``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["AT_START", "VALUES"]

VALUES: dict[str, tuple[Any, Any]] = {
    # -- CPU
    "CPUWeight": (50, "idle"),
    "StartupCPUWeight": (60, 300),
    "CPUQuota": ("50%", "150%"),
    "CPUQuotaPeriodSec": ("50ms", "20ms"),
    "AllowedCPUs": ("0-1", "0"),
    "StartupAllowedCPUs": ("0", "0-1"),
    "AllowedMemoryNodes": ("0", ""),
    "StartupAllowedMemoryNodes": ("0", ""),
    "CPUAccounting": ("yes", "no"),
    "CPUShares": (512, 2048),
    "StartupCPUShares": (512, 2048),
    # -- memory
    "MemoryMin": ("1M", "2M"),
    "MemoryLow": ("1M", "1.5%"),
    "MemoryHigh": ("300M", "40%"),
    "MemoryMax": ("512M", "50%"),
    "MemorySwapMax": ("0", "64M"),
    "MemoryZSwapMax": ("0", "16M"),
    "MemoryZSwapWriteback": ("no", "yes"),
    "DefaultMemoryMin": ("1M", "512K"),
    "DefaultMemoryLow": ("1M", "512K"),
    "StartupMemoryLow": ("1M", "2M"),
    "DefaultStartupMemoryLow": ("1M", "2M"),
    "StartupMemoryHigh": ("100M", "200M"),
    "StartupMemoryMax": ("200M", "300M"),
    "StartupMemorySwapMax": ("0", "32M"),
    "StartupMemoryZSwapMax": ("0", "32M"),
    "MemoryAccounting": ("yes", "no"),
    "MemoryLimit": ("512M", "256M"),
    "ManagedOOMSwap": ("kill", "auto"),
    "ManagedOOMMemoryPressure": ("kill", "auto"),
    "ManagedOOMMemoryPressureLimit": ("50%", "60%"),
    "ManagedOOMMemoryPressureDurationSec": ("20s", "30s"),
    "ManagedOOMPreference": ("avoid", "omit"),
    # -- IO
    "IOWeight": (50, 200),
    "StartupIOWeight": (60, 300),
    "IODeviceWeight": ("/dev/vda 50", "/dev/vda 200"),
    "IOReadBandwidthMax": ("/dev/vda 10M", "/dev/vda 20M"),
    "IOWriteBandwidthMax": ("/dev/vda 10M", "/dev/vda 1500K"),
    "IOReadIOPSMax": ("/dev/vda 100", "/dev/vda 2K"),
    "IOWriteIOPSMax": ("/dev/vda 100", "/dev/vda 200"),
    "IODeviceLatencyTargetSec": ("/dev/vda 25ms", "/dev/vda 50ms"),
    "IOAccounting": ("yes", "no"),
    "BlockIOAccounting": ("yes", "no"),
    "BlockIOWeight": (100, 200),
    "StartupBlockIOWeight": (100, 200),
    "BlockIODeviceWeight": ("/dev/vda 100", "/dev/vda 200"),
    "BlockIOReadBandwidth": ("/dev/vda 10M", "/dev/vda 20M"),
    "BlockIOWriteBandwidth": ("/dev/vda 10M", "/dev/vda 20M"),
    # -- tasks
    "TasksMax": (50, "20%"),
    "TasksAccounting": ("yes", "no"),
    # -- the rest: network, devices, programs
    "IPAccounting": ("yes", "no"),
    "IPAddressAllow": ("localhost 10.0.0.0/8", "192.0.2.0/24"),
    "IPAddressDeny": ("any", "198.51.100.0/24"),
    "SocketBindAllow": (["tcp:8000-9000"], ["ipv4:udp:53"]),
    "SocketBindDeny": ("any", ["tcp:80"]),
    "RestrictNetworkInterfaces": ("eth0 lo", "~eth1"),
    "DeviceAllow": (["/dev/null rw", "char-pts"], ["/dev/zero r"]),
    "DevicePolicy": ("closed", "strict"),
    "NFTSet": ("cgroup:inet:nsprov:one", "cgroup:inet:nsprov:two"),
}

#: What systemd takes only when it makes the unit, with a value: where its control group is and whose, and programs.
AT_START: dict[str, Any] = {
    "BPFProgram": "egress:/sys/fs/bpf/one",
    "CoredumpReceive": "yes",
    "Delegate": "memory pids",
    "DelegateSubgroup": "inner",
    "DisableControllers": "memory pids",
    "IPEgressFilterPath": "/sys/fs/bpf/one",
    "IPIngressFilterPath": "/sys/fs/bpf/two",
    "MemoryPressureThresholdSec": "150ms",
    "MemoryPressureWatch": "no",
}
