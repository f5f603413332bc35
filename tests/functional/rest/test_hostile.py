# SPDX-License-Identifier: Apache-2.0
"""Requests that no client of good will sends: a clear refusal, and never an internal error."""

import http.client
import socket

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.functional.rest.test_targets import has_health
from tests.lab.process import HOST, wait_until

# With those of test_openapi, at least 2,000.
REQUESTS = 1600
# Stands for the id of an image that there is, where nothing of it is changed.
REPLICATED = "replicated"
READING = ("GET", "HEAD")
UNKNOWN = "7f2f2b5e-0c7f-4f3b-9d4c-000000000004"
TIMEOUT_SECONDS = 30

image_ids = st.sampled_from(
    [
        *[REPLICATED] * 5,
        "7f2f2b5e-0c7f-4f3b-9d4c-000000000003",
        "-" * 36,
        "f" * 36,
        "7F2F2B5E-0C7F-4F3B-9D4C-000000000003",
        "",
        "..",
        "%2e%2e",
        "%00",
        "7f2f2b5e",
        "{image_id}",
    ]
)
ASCII = "abz019-._~/?#&=;:@!$'()*+,[]{}|\\^`<>\"\x7f"
# Glance's own version negotiation, which comes before the filter, fails with paths that are not
# UTF-8; queries may hold anything.
pieces = st.text(st.sampled_from(ASCII), max_size=12)
bytes_of_queries = st.text(st.sampled_from(f"{ASCII}%\xe9\xff"), max_size=12)
targets = st.one_of(
    st.sampled_from(
        ["site-a", "nowhere", "%00", "%C3%A9", "a%2Fb", "..", "a" * 300, "*", "'%20OR%201"]
    ),
    pieces,
)
values = st.one_of(
    st.sampled_from(
        ["-1", "0", "1", "NaN", "inf", "-inf", "1e9", "9" * 50, "0x1", "", "%00", "%ff", "null"]
    ),
    bytes_of_queries,
)
names = st.one_of(
    st.sampled_from(["wait", "limit", "marker", "status", "target"]), bytes_of_queries
)
queries = st.lists(st.tuples(names, values).map("=".join), max_size=4).map("&".join)
paths = st.one_of(
    st.builds("/v2/images/{}/replicas".format, image_ids),
    st.builds("/v2/images/{}/replicas/{}".format, image_ids, targets),
    st.sampled_from(["/v2/replication/replicas", "/v2/replication/targets"]),
    st.builds("/v2/replication/{}".format, pieces),
)
methods = st.sampled_from(
    ["GET", "GET", "HEAD", "PUT", "PUT", "DELETE", "DELETE", "POST", "PATCH", "TRACE", "get", "X"]
)
headers = st.dictionaries(
    st.sampled_from(
        ["Accept", "Content-Type", "X-Roles", "X-Project-Id", "Range", "If-Match", "Expect-Ct"]
    ),
    st.sampled_from(["", "*/*;q=NaN", "application/json", "text/html", "\xff", "a" * 2000, ";;"]),
    max_size=3,
)
bodies = st.one_of(st.just(b""), st.binary(max_size=200), st.just(b'{"replica": {}}'))


def send(cloud, method, target, sent, body, token):
    """Send a request as it is, without a client that puts it right; returns the answer."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}", f"X-Auth-Token: {token}"]
    lines += [f"{name}: {value}" for name, value in sent.items()]
    lines += [f"Content-Length: {len(body)}"] if body else []
    text = "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")
    with socket.create_connection((HOST, cloud.glance.port), TIMEOUT_SECONDS) as connection:
        connection.sendall(text + body)
        answer = http.client.HTTPResponse(connection, method=method)
        answer.begin()
        return answer.status, answer.headers, answer.read()


@pytest.fixture(scope="module")
def workers(quiet):
    """The processes that serve Glance before the first request."""
    return quiet.glance.worker_pids()


@pytest.fixture(scope="module")
def seen(workers):
    """How many requests had which answer."""
    found = {}
    yield found
    print("answers by status:", found)


@pytest.fixture(scope="module")
def seen_of_replicated():
    """The same, of those requests that were for an image that there is."""
    return {}


@pytest.fixture(scope="module")
def image_id(quiet):
    image_id = quiet.new_image(b"some bytes")
    quiet.wait_replicated(image_id)
    yield image_id
    quiet.forget(image_id)


@hypothesis.settings(
    max_examples=REQUESTS,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(methods, paths, queries, headers, bodies, st.sampled_from(["admin", "alice"]))
def test_nothing_is_an_internal_error(
    quiet, seen, seen_of_replicated, image_id, method, path, query, sent, body, user
):
    path = path.replace(REPLICATED, image_id if method in READING else UNKNOWN)
    # What ends a request line, or is no part of one, would be the server's to refuse.
    target = (f"{path}?{query}" if query else path).replace("\x7f", "")
    try:
        status, _, text = send(quiet, method, target, sent, body, quiet.token(user))
    except http.client.RemoteDisconnected:
        status, text = "closed by the server", b""
    for found in (seen, seen_of_replicated)[: 1 + (image_id in path)]:
        found[status] = found.get(status, 0) + 1
    # Glance says of methods that it does not know that they are not implemented.
    assert status == 501 or status not in range(500, 600), (method, target, sent, body, text)
    assert status != 202, (method, target, "nothing of this can be done")


def test_all_of_them_were_answered_by_the_same_processes(quiet, seen, workers):
    if not seen:
        pytest.skip("nothing was sent")
    assert quiet.glance.worker_pids() == workers
    assert "closed by the server" not in seen, seen


def test_there_were_enough_and_some_came_as_far_as_the_replica(seen, seen_of_replicated):
    if not seen:
        pytest.skip("nothing was sent")
    print("of an image that there is:", seen_of_replicated)
    assert sum(seen.values()) >= REQUESTS
    assert sum(seen_of_replicated.values()) >= REQUESTS / 20
    assert {200, 400, 404} <= seen_of_replicated.keys()


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (f"/v2/images/{'f' * 36}/replicas", "GET, HEAD"),
        (f"/v2/images/{'f' * 36}/replicas/site-a", "DELETE, GET, HEAD, PUT"),
        ("/v2/replication/replicas", "GET, HEAD"),
        ("/v2/replication/targets", "GET, HEAD"),
    ],
)
def test_wrong_method_is_told_the_right_ones(quiet, path, allowed):
    for method in ("POST", "PATCH", "PROPFIND"):
        status, answered, _ = send(quiet, method, path, {}, b"", quiet.token())
        assert (status, answered["Allow"]) == (405, allowed)


@pytest.mark.parametrize("accept", ["application/json", "text/html", "*/*", "text/plain"])
def test_errors_have_the_form_of_glances_own(quiet, accept):
    """But for their words."""
    ours, glances = (
        send(quiet, "GET", path, {"Accept": accept}, b"", quiet.token("admin"))
        for path in ("/v2/replication/replicas?limit=x", "/v2/images?limit=x")
    )
    assert (ours[0], ours[1]["Content-Type"]) == (glances[0], glances[1]["Content-Type"])
    words = b"limit must be a whole number from 0."
    assert words in ours[2]
    assert ours[2] == glances[2].replace(b"limit param must be an integer", words)


@pytest.mark.parametrize(("kib", "expected"), [(40, 200), (1 << 10, None), (10 << 10, None)])
def test_headers_without_end(quiet, kib, expected):
    """uWSGI closes the connection where they exceed its buffer-size, and goes on to serve others.

    tests/functional/test_servers.py sees what other servers answer.
    """
    path = "/v2/replication/targets"
    try:
        status, _, _ = send(quiet, "GET", path, {"X-Long": "a" * (kib << 10)}, b"", quiet.token())
    except (OSError, http.client.HTTPException):
        status = None
    assert status == expected
    wait_until(lambda: has_health(quiet, "site-a", "up"), 60, "others are served")


def test_body_that_never_comes(quiet):
    """It is refused before it is read."""
    path = f"/v2/images/{'f' * 36}/replicas/site-a"
    status, _, _ = send(quiet, "PUT", path, {"Content-Length": "1000000"}, b"", quiet.token())
    assert status == 400
