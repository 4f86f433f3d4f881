"""The description, held against what the application does."""

import collections

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from starlette.testclient import TestClient

from tests.service.conftest import Served, encoded, noise


def test_it_lists_every_route_and_the_probes_of_bentoml(served: Served) -> None:
    document = served.client.get("/openapi.json").json()
    routes = {route.path for route in served.app.asgi.routes}
    assert document["paths"].keys() == routes | {"/livez", "/readyz"}
    for route in served.app.asgi.routes:
        described = {method.upper() for method in document["paths"][route.path]}
        assert described == route.methods - {"HEAD"}


def test_every_field_of_a_form_is_described(served: Served) -> None:
    document = served.client.get("/openapi.json").json()
    form = document["paths"]["/analyze"]["post"]["requestBody"]["content"]["multipart/form-data"]
    for name, field in form["schema"]["properties"].items():
        assert field.get("description"), name


def test_replies_are_as_described(served: Served) -> None:
    """Random requests, and the same ones with a sound image."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", served.app.asgi)
    image = encoded(noise())
    seen = collections.Counter()

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        case = data.draw(strategy)
        seen[path, case.call_and_validate(checks=CHECKS.get_by_names(NAMES)).status_code] += 1
        if isinstance(case.body, dict):
            several = path == "/analyze_batch"
            case.body = {**case.body, "image": [image] if several else image}
            reply = case.call_and_validate(checks=CHECKS.get_by_names(NAMES))
            seen[path, reply.status_code] += 1

    for operation in schema.exclude(path_regex="/livez|/readyz").get_all_operations():
        strategy, path = operation.ok().as_strategy(), operation.ok().path
        run()
    for path in ("/analyze", "/analyze_batch", "/overlay", "/plc"):
        assert seen[path, 200] > 5, f"{path} was never asked soundly: {seen}"


def test_requests_that_are_not_as_described_are_answered_as_described(served: Served) -> None:
    """Whether all are refused cannot be asked: of an empty list, say, a form has no trace."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", served.app.asgi)
    checks = CHECKS.get_by_names([*NAMES, "unsupported_method"])

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: st.DataObject) -> None:
        data.draw(strategy).call_and_validate(checks=checks)

    for path in ("/analyze", "/analyze_batch", "/overlay", "/plc"):
        strategy = schema[path]["POST"].as_strategy(generation_mode=GenerationMode.NEGATIVE)
        run()


NAMES = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]


def test_a_reply_with_everything_in_it_is_as_described(served: Served) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", served.app.asgi)
    operation = schema["/analyze"]["POST"]
    client = TestClient(served.app.asgi)
    for mask in ("png", "rle", "polygon", "none"):
        files = {"image": ("a.png", encoded(noise()))}
        options = {"mask": mask, "probability": "png", "px_to_mm": "0.1", "part_id": "x"}
        reply = client.post("/analyze", files=files, data=options)
        operation.validate_response(reply)
