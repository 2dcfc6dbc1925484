"""How soon a board over SSH answers: the real server of the tests, whose login lands in the arm64 userland.

    python benchmarks/ssh_board.py [--cache FOLDER] [--times 5]

Prints the seconds until `edgeconv devices probe` has its answer: at the first contact, which sends the agent; with
a new connection; and with the one that was kept open. The processor there is emulated, the server included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from devices import ssh_board

from edgeconv.devices._ssh_settings import SshSettings
from edgeconv.devices.probing import probe
from edgeconv.devices.ssh import SshDevice


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, help="where the userland is kept, or made")
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        built = ssh_board.tree(arguments.cache or Path(folder) / "devices")
        seconds: dict[str, list[float]] = {"first contact": [], "new connection": [], "open connection": []}
        for number in range(arguments.times):
            with ssh_board.running(built, Path(tempfile.mkdtemp(dir=folder))) as board:
                device = SshDevice("board", SshSettings(host="board", config=str(board.config)))
                for name in seconds:
                    if name == "new connection":
                        device.disconnect()
                    begun = time.perf_counter()
                    probe(device)
                    seconds[name].append(time.perf_counter() - begun)
                device.disconnect()
            print(f"{number + 1} of {arguments.times}", file=sys.stderr)
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name, each in seconds.items():
        print(f"{name}: median {statistics.median(each):.2f} s, least {min(each):.2f}, most {max(each):.2f}")


if __name__ == "__main__":
    main()
