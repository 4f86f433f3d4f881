"""Where the log's lines go."""

import json
import logging
import sys
from datetime import UTC, datetime


class _Lines(logging.Formatter):
    """One JSON object a line; what is one already stays as it is."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.name == "detector_service.requests" and message.startswith("{"):
            return message
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": message,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stdout() -> None:
    """Send this package's lines to the standard output, beside BentoML's own."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Lines())
    logger = logging.getLogger("detector_service")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
