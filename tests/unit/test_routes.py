# SPDX-License-Identifier: Apache-2.0
"""What the filter takes a request for, and what Glance's own router makes of it."""

import io
import warnings

import pytest
import webob
from oslo_config import cfg
from paste.urlmap import URLMap

from glance_repl_mw.routes import ROUTED, Action, action_in, action_of, is_id, is_usual_id
from glance_repl_mw.spool.upload import Origin

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
PATH = f"/v2/images/{IMAGE}"


PLAIN, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"


@pytest.mark.parametrize("end", ["", "/"])
@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("PUT", f"{PATH}/file", Action(IMAGE, Origin.UPLOAD)),
        ("GET", f"{PATH}/file", Action(IMAGE, is_download=True)),
        ("PUT", f"{PATH}/stage", Action(IMAGE, Origin.STAGE)),
        ("PATCH", PATH, Action(IMAGE, None, True, has_body=True)),
        ("DELETE", PATH, Action(IMAGE, None, True, deletes_image=True)),
        ("POST", f"{PATH}/locations", Action(IMAGE, None, True, has_body=True)),
        ("POST", f"{PATH}/import", Action(IMAGE, None, True, has_body=True)),
        ("POST", f"{PATH}/actions/deactivate", Action(IMAGE, None, True)),
        ("POST", f"{PATH}/actions/reactivate", Action(IMAGE, None, True)),
        ("DELETE", f"/v2/stores/second/{IMAGE}", Action(IMAGE, None, True)),
        ("PUT", f"{PATH}/tags/file", Action(IMAGE, None, True)),
        ("DELETE", f"{PATH}/tags/file", Action(IMAGE, None, True)),
    ],
)
def test_what_a_request_does(method, path, action, end):
    assert action_of(method, path + end) == action


@pytest.mark.parametrize("given", [IMAGE.upper(), f"{IMAGE} ", f"{IMAGE}\n", "short", "\xe1"])
def test_ids_are_as_they_were_given(given):
    """Only Glance knows which image its database finds by them."""
    assert action_of("PATCH", f"/v2/images/{given}").image_id == given
    assert action_of("DELETE", f"/v2/stores/second/{given}").image_id == given


@pytest.mark.parametrize(
    ("text", "is_one", "is_usual"),
    [
        (IMAGE, True, True),
        (IMAGE.upper(), True, False),
        (f"{IMAGE} ", False, False),
        (f"{IMAGE}\n", False, False),
        (IMAGE.replace("-", ""), False, False),
        ("short", False, False),
        ("", False, False),
    ],
)
def test_ids(text, is_one, is_usual):
    assert (is_id(text), is_usual_id(text)) == (is_one, is_usual)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", f"{PATH}/file"),
        ("POST", f"{PATH}/file"),
        ("GET", PATH),
        ("GET", f"{PATH}/locations"),
        ("GET", f"{PATH}/tasks"),
        ("PUT", f"{PATH}/members/x/file"),
        ("PUT", f"{PATH}/file/more"),
        ("PUT", f"{PATH}/tags/one/two"),
        ("POST", f"{PATH}/members"),
        ("GET", "/v2/images/short/file"),
        ("PUT", "/v2/images//file"),
        ("PUT", f"/x{PATH}/file"),
        ("PATCH", f"/v2/images/../{IMAGE}"),
        ("POST", "/v2/images"),
        ("POST", "/v2/tasks"),
        ("DELETE", f"/v2/cache/{IMAGE}"),
        ("GET", ""),
    ],
)
def test_what_changes_nothing(method, path):
    assert action_of(method, path) is None


# As Glance's router sees it


@pytest.fixture(scope="module")
def router():
    """Paste's map and Glance's router; what it has found is in the environ afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from glance.api.v2.router import API
        from glance.common.wsgi import APIMapper

    cfg.CONF([], default_config_files=[], default_config_dirs=[])
    api = API(APIMapper())
    cfg.CONF.reset()

    def dispatch(environ, start_response):
        start_response("204 No Content", [])
        return []

    api._router.app = dispatch
    router = URLMap()
    router["/v2"] = api
    return router


def environ_of(method, path, query="", body=b"", kind=None):
    environ = webob.Request.blank("/", method=method).environ
    environ |= {"PATH_INFO": path, "QUERY_STRING": query, "CONTENT_LENGTH": str(len(body))}
    environ["wsgi.input"] = io.BytesIO(body)
    return environ | ({"CONTENT_TYPE": kind} if kind else {})


def found_by(router, environ):
    """The image and the action of the router, None where it finds none that does anything."""
    router(environ, lambda *_: None)
    _, found = environ[ROUTED]
    is_served = found.get("action") not in (None, "reject")
    return (found["image_id"], found["action"]) if is_served else None


@pytest.mark.parametrize(
    ("method", "path", "served", "action"),
    [
        ("DELETE", f"/v2/images//{IMAGE}", "delete", Action(IMAGE, None, True, True)),
        ("DELETE", f"//v2///images//{IMAGE}", "delete", Action(IMAGE, None, True, True)),
        ("DELETE", f"/v2/images/{IMAGE}\n", "delete", Action(IMAGE, None, True, True)),
        ("PATCH", f"/v2/images//{IMAGE}", "update", Action(IMAGE, None, True, has_body=True)),
        ("PUT", f"/v2//images/{IMAGE}/file", "upload", Action(IMAGE, Origin.UPLOAD)),
        ("PUT", f"/v2/images/{IMAGE}//file", "upload", Action(IMAGE, Origin.UPLOAD)),
        ("PUT", f"/v2/images/{IMAGE}/file\n", "upload", Action(IMAGE, Origin.UPLOAD)),
        ("PUT", f"/v2/images/{IMAGE}//stage", "stage", Action(IMAGE, Origin.STAGE)),
        ("GET", f"/v2/images/{IMAGE}//file", "download", Action(IMAGE, is_download=True)),
        ("DELETE", f"/v2//images/{IMAGE}/tags/a", "delete", Action(IMAGE, None, True)),
        ("DELETE", f"/v2/stores//x//{IMAGE}", "delete_from_store", Action(IMAGE, None, True)),
        ("PUT", f"{PATH}//tags/a\n", "update", Action(IMAGE, None, True)),
        ("DELETE", f"{PATH} ", "delete", Action(f"{IMAGE} ", None, True, True)),
    ],
)
def test_path_is_the_one_that_glance_sees(router, method, path, served, action):
    environ = environ_of(method, path)
    before = dict(environ)
    assert action_in(environ) == action
    assert environ == before
    assert found_by(router, environ) == (action.image_id, served)


@pytest.mark.parametrize(
    ("method", "path", "query", "served", "action"),
    [
        ("GET", PATH, "_method=DELETE", "delete", Action(IMAGE, None, True, True)),
        ("POST", PATH, "a=b&_method=delete", "delete", Action(IMAGE, None, True, True)),
        ("GET", PATH, "_method=PUT&_method=DELETE", "delete", Action(IMAGE, None, True, True)),
        ("POST", PATH, "_method=PATCH", "update", Action(IMAGE, None, True, has_body=True)),
        ("POST", f"{PATH}/file", "_method=PUT", "upload", Action(IMAGE, Origin.UPLOAD)),
        ("DELETE", PATH, "_method=", "delete", Action(IMAGE, None, True, True)),
        ("DELETE", PATH, "_method=%FF", "delete", Action(IMAGE, None, True, True)),
        ("DELETE", PATH, "a_method=GET", "delete", Action(IMAGE, None, True, True)),
        ("DELETE", PATH, "%5Fmethod=GET", "delete", Action(IMAGE, None, True, True)),
        ("DELETE", PATH, "_method=GET", "show", None),
        ("PUT", f"{PATH}/file", "_method=GET", "download", Action(IMAGE, is_download=True)),
    ],
)
def test_query_names_another_method(router, method, path, query, served, action):
    environ = environ_of(method, path, query)
    before = dict(environ)
    assert action_in(environ) == action
    assert environ == before
    assert found_by(router, environ) == (IMAGE, served)


def form_of(kind, method):
    if kind == PLAIN:
        return f"_method={method}".encode()
    part = f'Content-Disposition: form-data; name="_method"\r\n\r\n{method}\r\n'
    return f"--x\r\n{part}--x--\r\n".encode()


@pytest.mark.parametrize("kind", [PLAIN, MULTIPART])
@pytest.mark.parametrize(
    ("path", "method", "served", "has_deleted"),
    [
        (PATH, "DELETE", "delete", True),
        (PATH, "GET", "show", False),
        (f"{PATH}/tags/one", "DELETE", "delete", False),
        (f"{PATH}/tags/one", "PUT", "update", False),
        (f"/v2/stores/x/{IMAGE}", "DELETE", "delete_from_store", False),
    ],
)
def test_form_names_another_method(router, kind, path, method, served, has_deleted):
    environ = environ_of("POST", path, "", form_of(kind, method), kind)
    action = action_in(environ)
    assert (action.image_id, action.saves_record, action.has_body) == (IMAGE, True, True)
    assert not action.has_deleted(environ)
    assert found_by(router, environ) == (IMAGE, served)
    assert action.has_deleted(environ) == has_deleted


@pytest.mark.parametrize(
    ("method", "path", "query", "kind"),
    [
        ("POST", PATH, "", "application/json"),
        ("POST", PATH, "x_method", PLAIN),
        ("PUT", PATH, "", PLAIN),
        ("POST", f"{PATH}/file", "", PLAIN),
        ("POST", "/v2/images", "", PLAIN),
    ],
)
def test_what_no_form_changes(method, path, query, kind):
    assert action_in(environ_of(method, path, query, kind=kind)) is None
