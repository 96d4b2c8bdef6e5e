"""The peer: workflows of so many steps in a row that do nothing, by DBOS (https://pypi.org/project/dbos) over PostgreSQL.

Usage: dbos_row.py URL CLIENTS SECONDS STEPS. Prints {"workflows", "seconds", "per_second", "version"}.

Each client runs one workflow after the other and waits for its end, as the clients of saga-bench do. Each step is durable
(one row of operation_outputs), and so are the beginning and the end of the workflow. The first second is not counted.
Coroutines, not threads: on this interpreter they are the faster form of the two.
"""

import asyncio
import importlib.metadata
import json
import logging
import sys
import time

from dbos import DBOS

url, clients, seconds, steps = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
logging.disable(logging.WARNING)
DBOS(config={"name": "row", "system_database_url": url, "run_admin_server": False, "log_level": "ERROR",
             "sys_db_pool_size": min(clients, 64)})


@DBOS.step()
async def nothing(number: int) -> int:
    return 1


@DBOS.workflow()
async def row() -> int:
    for number in range(steps):
        await nothing(number)
    return 1


async def client(warm: float, until: float) -> int:
    counted = 0
    while True:
        await row()
        now = time.monotonic()
        if now >= until:
            return counted
        if now >= warm:
            counted += 1


async def main() -> None:
    DBOS.launch()
    warm = time.monotonic() + 1
    until = warm + seconds
    counts = await asyncio.gather(*(client(warm, until) for _ in range(clients)))
    workflows = sum(counts)
    print(json.dumps({"workflows": workflows, "seconds": seconds, "per_second": workflows / seconds,
                      "version": importlib.metadata.version("dbos")}))
    sys.stdout.flush()
    DBOS.destroy()


asyncio.run(main())
