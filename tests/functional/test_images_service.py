# SPDX-License-Identifier: Apache-2.0
"""Glance's API as the service user calls it, against a real Glance."""

import uuid

import pytest
from oslo_config import cfg

from glance_repl_mw import exceptions, opts
from glance_repl_mw.images import ImageService
from tests.functional.cloud import MIB, Cloud, at_once
from tests.functional.test_location_races import add_location, at_the_same_moment, foreign_urls
from tests.lab.images import image_bytes
from tests.lab.webservers import Nginx

BODY = image_bytes(3 * MIB + 7)
SMALL = b"an object"
ROUNDS = 50


@pytest.fixture(scope="module")
def others(workdir, require):
    """A server with objects that replication knows nothing of."""
    require(Nginx)
    with Nginx(workdir("others")) as server:
        yield server


@pytest.fixture(scope="module")
def lone(keystone, workdir, others):
    """A cloud without targets, so that nobody but the test changes locations."""
    options = {"import_filtering_opts": {"allowed_ports": f"[80,443,{others.port}]"}}
    with Cloud(workdir("lone"), keystone, targets={}, options=options) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def service(lone):
    return service_of(lone)


def service_of(cloud):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[str(cloud.glance.config_file)], default_config_dirs=[])
    return ImageService(conf)


@pytest.fixture
def urls(others):
    """Make objects at the other server; returns their URLs."""

    def make(*names):
        for name in names:
            (others.root / name).write_bytes(SMALL)
        return [f"{others.url}{name}" for name in names]

    return make


def walk(service, limit, hidden):
    """All images by pages."""
    found = []
    while page := service.page(found[-1].image_id if found else None, limit, hidden=hidden):
        assert len(page) <= limit
        found += page
    return [image.image_id for image in found]


def test_pages_hold_every_image_once(lone, service):
    hidden = {lone.create_image(os_hidden=each) for each in (True, True)}
    seen = {lone.create_image() for _ in range(3)}
    assert seen <= set(walk(service, 2, hidden=False))
    found = walk(service, 2, hidden=False)
    assert len(found) == len(set(found))
    assert not hidden & set(found)
    assert set(walk(service, 2, hidden=True)) == hidden
    assert len(walk(service, 1, hidden=True)) == 2


def test_a_page_after_a_deleted_image_is_the_next_one(lone, service):
    first, second = lone.create_image(), lone.create_image()
    pages = walk(service, 2, hidden=False)
    lone.forget(first)
    rest = [image.image_id for image in service.page(first, len(pages))]
    assert rest == pages[pages.index(first) + 1 :]
    assert second in pages


def test_a_page_after_an_image_that_glance_does_not_know(service):
    with pytest.raises(exceptions.ImageGone):
        service.page(str(uuid.uuid4()), 2)


def test_download_is_the_body(lone, service):
    image_id = lone.new_image(BODY)
    blocks = list(service.download(image_id))
    assert b"".join(blocks) == BODY
    assert len(blocks) > 1


def test_download_of_an_empty_image(lone, service):
    assert b"".join(service.download(lone.new_image(b""))) == b""


def test_download_of_what_has_no_data(lone, service):
    image_id = lone.create_image()
    with pytest.raises(exceptions.GlanceUnavailable, match="without data"):
        list(service.download(image_id))
    lone.forget(image_id)
    with pytest.raises(exceptions.ImageGone):
        list(service.download(image_id))


def test_locations_are_removed(lone, service, urls):
    image_id = lone.new_image(BODY)
    (primary,) = lone.locations(image_id)
    one, two, three, four = urls("one", "two", "three", "four")
    service.add_locations(image_id, [one, two, three, four])
    assert service.remove_locations(image_id, {three, one, "http://elsewhere/"}) == []
    assert lone.locations(image_id) == [primary, two, four]
    assert b"".join(service.download(image_id)) == BODY


def test_the_last_location_stays(lone, service, urls):
    image_id = lone.new_image(BODY)
    primary, *more = [*lone.locations(image_id), *urls("one", "two")]
    service.add_locations(image_id, more)
    assert service.remove_locations(image_id, [*more, primary]) == [primary]
    assert lone.locations(image_id) == [primary]
    assert service.remove_locations(image_id, [primary]) == [primary]
    assert b"".join(service.download(image_id)) == BODY


def test_locations_of_an_image_that_is_gone(lone, service, urls):
    image_id = lone.create_image()
    lone.forget(image_id)
    with pytest.raises(exceptions.ImageGone):
        service.remove_locations(image_id, urls("one"))


def test_no_location_of_others_is_lost_while_some_are_removed(lone, others):
    """Two services remove different locations while two clients add some."""
    services = [service_of(lone) for _ in range(2)]

    def race(number):
        names = ["stays", "goes-1", "goes-2", "stays-too", "comes-1", "comes-2"]
        urls = dict(zip(names, foreign_urls(others, number, *names), strict=True))
        image_id = lone.new_image(SMALL)
        services[0].add_locations(image_id, [urls[name] for name in names[:4]])
        at_the_same_moment(
            (services[0].remove_locations, image_id, [urls["goes-1"]]),
            (services[1].remove_locations, image_id, [urls["goes-2"]]),
            (add_location, lone, image_id, urls["comes-1"]),
            (add_location, lone, image_id, urls["comes-2"]),
        )
        assert lone.glance.primary_path(image_id).read_bytes() == SMALL
        found = lone.locations(image_id)
        assert found[0].startswith("file:")
        return set(found[1:]) ^ {url for name, url in urls.items() if "goes" not in name}

    wrong = [url for urls in at_once(4, race, range(ROUNDS)) for url in urls]
    assert wrong == [], f"{len(wrong)} locations are lost, or are still there"
