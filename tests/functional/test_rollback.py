# SPDX-License-Identifier: Apache-2.0
"""Without the filter a plain Glance remains, and when it is put back, work goes on."""

import pytest

from tests.functional.cloud import MIB, WAIT_SECONDS, Cloud
from tests.lab.images import image_bytes
from tests.lab.process import wait_until
from tests.lab.webservers import Nginx

QUICK = {"reconcile_interval_seconds": "1", "missing_image_delay_seconds": "1"}


@pytest.fixture(scope="module")
def cloud(keystone, workdir, require):
    require(Nginx)
    with Cloud(workdir("rollback"), keystone, options={"replication": QUICK}) as cloud:
        yield cloud


def test_filter_is_taken_out_and_put_back(cloud):
    kept, deleted, missed = (image_bytes(MIB + number) for number in range(3))
    kept_id, deleted_id = cloud.new_image(kept), cloud.new_image(deleted)
    cloud.assert_replicated(kept_id, kept)
    cloud.assert_replicated(deleted_id, deleted)
    record = cloud.image(kept_id)

    filters = use_filters(cloud, {})
    assert cloud.request("GET", f"v2/images/{kept_id}/replicas").status_code == 404
    assert cloud.image(kept_id) == record
    assert download(cloud, kept_id) == kept
    assert cloud.request("DELETE", f"v2/images/{deleted_id}").status_code == 204
    assert set(cloud.objects(deleted_id)) == set(cloud.targets), "Glance cannot delete replicas"
    missed_id = cloud.new_image(missed)
    assert download(cloud, missed_id) == missed
    assert len(cloud.locations(missed_id)) == 1
    assert not cloud.objects(missed_id)
    assert not cloud.spool_files()
    primary = cloud.glance.primary_path(kept_id)
    primary.rename(f"{primary}.away")
    assert download(cloud, kept_id) == kept, "a replica serves it"
    primary.with_name(f"{kept_id}.away").rename(primary)

    use_filters(cloud, filters)
    cloud.image(kept_id)
    cloud.assert_replicated(missed_id, missed)
    wait_until(lambda: not cloud.objects(deleted_id), WAIT_SECONDS, "its objects go")
    cloud.assert_replicated(kept_id, kept)
    assert cloud.image(kept_id) == record
    assert {len(cloud.puts(kept_id, target)) for target in cloud.targets} == {1}


def use_filters(cloud, filters):
    """Change the pipeline, and return the filters that were in it; no writer of before is left."""
    before, cloud.glance.paste_filters = cloud.glance.paste_filters, filters
    cloud.glance.write_config()
    cloud.glance.reload()
    if not filters:
        wait_until(lambda: not cloud.writers(), WAIT_SECONDS, "the writer ends")
    return before


def download(cloud, image_id):
    answer = cloud.request("GET", f"v2/images/{image_id}/file")
    assert answer.status_code == 200, answer.text
    return answer.content
