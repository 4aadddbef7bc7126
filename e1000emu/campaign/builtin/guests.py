"""A guest's Linux with its stock e1000 driver on our NIC: kernels, models, module parameters.

A case boots one in QEMU, loads the driver with the parameters, and pings and fetches from our
stack through it.  Needs what `e1000emu guest` needs: a first run of it fetches kernel and QEMU.
"""

from __future__ import annotations

import os
import subprocess
import sys

from e1000emu.campaign import Campaign, Case, Limits

PARAMETERS = (
    "",
    "TxDescriptors=80 RxDescriptors=80",
    "TxDescriptors=4096 RxDescriptors=4096",
    "InterruptThrottleRate=0",
    "InterruptThrottleRate=8000",
    "TxIntDelay=0 RxIntDelay=32",
    "XsumRX=0",
    "FlowControl=0",
    "copybreak=0",
)

campaign = Campaign(
    "guests",
    axes={
        "kernel": ["bookworm", "trixie", "trixie-backports"],
        "model": ["82540EM", "82545EM", "82544GC"],
        "parameters": list(PARAMETERS),
    },
    limits=Limits(seconds=900, memory_bytes=1 << 40),
    again=0,  # a guest lives in real time
)
SCRIPT = """set -e
addr=$(ip -o -4 addr show dev eth0 | awk '{{print $4}}')
ip link set eth0 down
rmmod e1000
modprobe e1000 {parameters}
ip addr add $addr dev eth0
ip link set eth0 up
for i in $(seq 50); do [ "$(cat /sys/class/net/eth0/carrier)" = 1 ] && break; sleep 0.2; done
ping -c 3 -i 0.2 -s 1400 10.9.0.1
dmesg | grep -E 'Tx Unit Hang|WATCHDOG|Call Trace|Invalid' && exit 3
exit 0
"""


@campaign.case
def case(c: Case) -> None:
    """Boot, load, ping."""
    words = ["guest", "--kernel", c.kernel, "--model", c.model, "--timeout", "600s"]
    done = subprocess.run(
        [sys.executable, "-m", "e1000emu", *words, "--run", SCRIPT.format(parameters=c.parameters)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-500:]
