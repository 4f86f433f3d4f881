"""Dagster's webserver as its UI asks it."""

import json
import time
import urllib.request
from typing import Any

_REPOSITORY = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
    name location { name } } } } }"""
_LAUNCH = """mutation($run: ExecutionParams!) { launchRun(executionParams: $run) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_TERMINATE = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
_STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
_EVENTS = """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
    ... on MessageEvent { message } ... on ErrorEvent { error { message } } } } } }"""


class Webserver:
    """A running one, of a code location."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        return dict(found["data"])

    def materialize(self, asset: str, **run: Any) -> str:
        """Ask for an asset, without its checks; return the run's id."""
        selection = {"assetSelection": [{"path": [asset]}], "assetCheckSelection": []}
        return self.launch("__ASSET_JOB", selection, **run)

    def launch(
        self,
        job: str,
        selection: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> str:
        """Ask for a job; return the run's id."""
        [repository] = self.ask(_REPOSITORY)["repositoriesOrError"]["nodes"]
        selector = {
            "repositoryName": repository["name"],
            "repositoryLocationName": repository["location"]["name"],
            "jobName": job,
        }
        run = {
            "selector": selector | (selection or {}),
            "mode": "default",
            "runConfigData": config or {},
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in (tags or {}).items()]
            },
        }
        answer = self.ask(_LAUNCH, run=run)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def terminate(self, run: str) -> None:
        self.ask(_TERMINATE, id=run)

    def end(self, run: str, seconds: float = 180) -> str:
        """Wait for a run's last status."""
        deadline = time.monotonic() + seconds
        while True:
            status = str(self.ask(_STATUS, id=run)["runOrError"]["status"])
            if status in ("SUCCESS", "FAILURE", "CANCELED"):
                return status
            assert time.monotonic() < deadline, self.said(run)
            time.sleep(0.5)

    def hear(self, run: str, text: str, seconds: float = 180) -> None:
        """Wait until a run has logged a text."""
        deadline = time.monotonic() + seconds
        while text not in (said := self.said(run)):
            assert time.monotonic() < deadline, said
            time.sleep(0.5)

    def said(self, run: str) -> str:
        """Return what a run logged."""
        events = self.ask(_EVENTS, id=run)["logsForRun"]["events"]
        told = [(e.get("message") or "", (e.get("error") or {}).get("message", "")) for e in events]
        return "\n".join(" ".join(both) for both in told)[-5000:]
