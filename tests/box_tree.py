"""Files in place of a box: what CPU, disks, network and platform are read from, as a 128 GB box has them."""

from __future__ import annotations

from pathlib import Path

STAT = (
    "cpu  {user} 0 200 8000 100 0 50 0 40 0\ncpu0 1 1 1 1 1 1 1 0 0 0\ncpu1 1 1 1 1 1 1 1 0 0 0\nintr 5 0\n"
)
VMSTAT = "nr_free_pages 1\nx_pswpin 9\npswpin {swapped}\npswpout 7\npgmajfault 3\noom_kill 2\noom_killer 9\n"
DISK = "10 0 {read} 5 20 0 2000 9 0 {busy} 14 0 0 0 0 0 0\n"
PRESSURE = (
    "some avg10={some} avg60=0.10 avg300=0.00 total=12\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=0\n"
)

SYSTEM = {
    "proc/stat": STAT.format(user=1000),
    "proc/loadavg": "1.25 0.70 0.50 2/900 12345\n",
    "proc/vmstat": VMSTAT.format(swapped=100),
    "proc/pressure/memory": PRESSURE.format(some="3.50"),
    "proc/pressure/io": PRESSURE.format(some="0.25"),
    "proc/meminfo": "MemTotal: 131161644 kB\nMemFree: 8123456 kB\nMemAvailable: 60000000 kB\nBuffers: 1 kB\n"
    "Cached: 5 kB\nSwapTotal: 8388604 kB\nSwapFree: 8388604 kB\n",
    "sys/class/hwmon/hwmon0/name": "nvme\n",
    "sys/class/hwmon/hwmon0/temp1_input": "33000\n",
    "sys/class/hwmon/hwmon3/name": "k10temp\n",
    "sys/class/hwmon/hwmon3/temp1_input": "48625\n",
    "sys/block/nvme0n1/stat": DISK.format(read=1000, busy=500),
    "sys/block/nvme0n1/device/model": "a disk\n",
    "sys/block/sda/stat": DISK.format(read=10, busy=5),
    "sys/block/sda/device/model": "another\n",
    "sys/block/nvme0c0n1/stat": DISK.format(read=1000, busy=500),  # a path to the first one
    "sys/block/nvme0c0n1/hidden": "1\n",
    "sys/block/nvme0c0n1/device/model": "a disk\n",
    "sys/block/sr0/stat": DISK.format(read=1, busy=1),
    "sys/block/sr0/device/model": "a tray\n",
    "sys/block/zram0/stat": DISK.format(read=1, busy=9000),
    "sys/block/dm-0/stat": DISK.format(read=1000, busy=500),
    "sys/class/net/lo/statistics/rx_bytes": "999999\n",
    "sys/class/net/lo/statistics/tx_bytes": "999999\n",
    "sys/class/net/eth0/device/vendor": "0x10ec\n",
    "sys/class/net/eth0/statistics/rx_bytes": "5000\n",
    "sys/class/net/eth0/statistics/tx_bytes": "7000\n",
    "sys/class/net/wlan0/device/vendor": "0x14c3\n",
    "sys/class/net/wlan0/statistics/rx_bytes": "100\n",
    "sys/class/net/wlan0/statistics/tx_bytes": "100\n",
}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root
