"""What a process says arrives whole, however long it is, and whenever it is killed."""

import subprocess
import sys

import dagster as dg

from defect_assets.assets.message_pipe import MessagePipe

SAYS = """
import os, signal
from dagster_pipes import open_dagster_pipes
with open_dagster_pipes() as pipes:
    for number in range(200):
        pipes.report_custom_message({"number": number, "long": "x" * 1000 * number})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_long_messages_arrive_whole_and_in_order() -> None:
    heard = []

    @dg.op
    def listens(context: dg.OpExecutionContext) -> None:
        with dg.open_pipes_session(
            context, dg.PipesTempFileContextInjector(), MessagePipe()
        ) as session:
            environment = session.get_bootstrap_env_vars()
            subprocess.run([sys.executable, "-c", SAYS], env=environment, check=False)
        heard.extend(session.get_custom_messages())

    @dg.job
    def job() -> None:
        listens()

    assert job.execute_in_process().success
    assert [message["number"] for message in heard] == list(range(200))
    assert [len(message["long"]) for message in heard] == [1000 * n for n in range(200)]
