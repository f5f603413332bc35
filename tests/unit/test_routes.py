"""What the filter takes a request for."""

import pytest

from glance_repl_mw.routes import Action, action_of
from glance_repl_mw.spool.upload import Origin

IMAGE = "6f1f5a5e-1c0d-4d7e-9d0b-0c5f4d1f0a11"
PATH = f"/v2/images/{IMAGE}"


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


def test_ids_keep_their_capitals():
    assert action_of("PATCH", PATH.replace(IMAGE, IMAGE.upper())).image_id == IMAGE.upper()


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
        ("PUT", "/v2/images/short/file"),
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
