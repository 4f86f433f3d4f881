"""A process that walks the road again and again, each time until it is killed at some point.

It is run by a checkout's code, and imports once what all walks need. For each line on its input, a
number of points (0: not to die) and a command's arguments, it forks; the child runs the command,
counts what it asks of the store, of the file system and of Dagster's database, and kills itself at
that point. How the child ended, and how many points it had, is printed.
"""

import os
import sys
import traceback

import dagster as dg

import defect_assets.assets.experiment
import defect_assets.commands.roads
import defect_assets.registry.preflight
import defect_assets.training.task
import definitions
from defect_assets.cli import app
from tests.end_to_end.killed.mortality import Mortal

__all__ = ["defect_assets", "definitions"]


class Walker(Mortal):
    """Counts what it tells Dagster, too."""

    def watch(self) -> None:
        super().watch()
        for name in ("handle_new_event", "add_dynamic_partitions", "create_run"):
            told = self.before_and_after(getattr(dg.DagsterInstance, name))
            setattr(dg.DagsterInstance, name, told)


def walk(last: int, arguments: list[str], out: int) -> int:
    """Run a command, up to some point; return its exit status."""
    walker = Walker(last)
    walker.watch()
    os.setsid()
    os.dup2(2, 1)
    try:
        app(arguments)
    except SystemExit as end:
        os.write(out, f"{walker.count}".encode())
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    return 70


def main() -> None:
    """Walk as often as there are lines."""
    print("ready", flush=True)
    for line in sys.stdin:
        last, *arguments = line.split()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            os._exit(walk(int(last), arguments, write))
        os.close(write)
        _, status = os.waitpid(child, 0)
        count = os.read(read, 100).decode() or "0"
        os.close(read)
        print(os.waitstatus_to_exitcode(status), count, flush=True)


if __name__ == "__main__":
    main()
