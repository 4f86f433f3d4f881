"""The process that trains a model for the asset `trained_model`; knows Dagster's Pipes and no more.

Asked to stop, by SIGTERM or SIGINT, it saves the training's state and ends within seconds. When the
run that started it is killed, it ends at once: another run may already take its place.
"""

import os
import signal
import time
from threading import Event, Thread

from dagster_pipes import open_dagster_pipes

GRACE = 20
"""Seconds after which what was asked to stop is ended: what was saved before is there."""
STOPPED = 3
"""The exit status where a training stopped because it was asked to."""
REFUSED = 4
"""The exit status where a person can mend what is wrong; what it is was said."""
TASK, RUN, NEWS, OUTCOME, WHY = "task", "run", "news", "outcome", "why"


def main() -> int:
    """Do the task that the run gives; return the exit status."""
    asked = Event()

    def ask(*_: object) -> None:
        asked.set()
        signal.alarm(GRACE)  # whose default is to end the process

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    with open_dagster_pipes() as pipes:
        run = pipes.get_extra(RUN)
        Thread(target=_end_with, args=(run,), daemon=True).start()
        # PyTorch takes seconds to import; who asks meanwhile is heard.
        from defect_assets.training.experiment import ConfigMismatch
        from defect_assets.training.loop import TrainingDiverged, TrainingStopped
        from defect_assets.training.task import News, TrainingTask, run_task

        def tell(news: News) -> None:
            pipes.report_custom_message({NEWS: news.model_dump_json()})

        task = TrainingTask.model_validate_json(pipes.get_extra(TASK))
        try:
            outcome = run_task(task, tell, asked.is_set)
        except TrainingStopped as stopped:
            pipes.report_custom_message({WHY: str(stopped)})
            return STOPPED
        except (TrainingDiverged, ConfigMismatch) as error:
            pipes.report_custom_message({WHY: str(error)})
            return REFUSED
        pipes.report_custom_message({OUTCOME: outcome.model_dump_json()})
        return 0


def _end_with(run: int) -> None:
    """End this process as soon as the run's is gone."""
    while os.getppid() == run:
        time.sleep(0.2)
    os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main())
