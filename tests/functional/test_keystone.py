# SPDX-License-Identifier: Apache-2.0
"""The service user at a real Keystone: plugins, TLS, endpoints from the catalogue."""

import pytest
from oslo_config import cfg

from glance_repl_mw import exceptions, opts
from glance_repl_mw.images import ImageService
from tests.lab.certificates import Authority
from tests.lab.process import HOST, free_port, wait_until
from tests.lab.tlsfront import TlsFront

USER = "keymaster"
PASSWORD = "lab-keymaster-password"
PROJECT = "service"
NOBODY = f"http://{HOST}:{free_port()}/"
REGIONS = ("RegionOne", "RegionTwo")


@pytest.fixture(scope="module")
def image_id(cloud):
    image_id = cloud.create_image()
    yield image_id
    cloud.forget(image_id)


@pytest.fixture(scope="module")
def user(keystone):
    """The options of the plugin `password` for a service user of this module."""
    keystone.add_user(USER, PASSWORD, PROJECT, ("admin",))
    return keystone.credentials(USER, PROJECT)


@pytest.fixture(scope="module")
def plugins(keystone, user):
    """Options by the name of a way to authenticate."""
    by_id = keystone.add_application_credential(USER, PROJECT, "copies")
    by_name = {key: value for key, value in by_id.items() if not key.endswith("_id")}
    names = ("auth_url", "project_name", "project_domain_id")
    token = {name: user[name] for name in names}
    token["token"] = keystone.session(USER, PROJECT).get_token()
    return {
        "password": {"auth_type": "password", **user},
        "v3password": {"auth_type": "v3password", **user},
        "application credential by id": {"auth_type": "v3applicationcredential", **by_id},
        "application credential by name": {
            "auth_type": "v3applicationcredential",
            "application_credential_name": "copies",
            "username": USER,
            "user_domain_id": "default",
            **by_name,
        },
        "v3token": {"auth_type": "v3token", **token},
        "token": {"auth_type": "token", **token},
    }


@pytest.fixture
def service_of(tmp_path, cloud):
    """An image service with these options in [replication], or in a section of their own."""

    def make(options, auth_section=None, **more):
        sections = {"replication": more}
        if auth_section:
            more["auth_section"] = auth_section
        if not {"region_name", "valid_interfaces", "interface"} & set(more):
            more.setdefault("endpoint_override", cloud.glance.url)
        sections.setdefault(auth_section or "replication", {}).update(options)
        file = tmp_path / "replication.conf"
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
        file.write_text("\n".join(lines))
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], default_config_files=[str(file)], default_config_dirs=[])
        return ImageService(conf)

    return make


WAYS = (
    "password",
    "v3password",
    "application credential by id",
    "application credential by name",
    "v3token",
    "token",
)


@pytest.mark.parametrize("way", WAYS)
def test_way_to_authenticate(way, plugins, service_of, image_id):
    assert service_of(plugins[way]).get(image_id).status == "queued"
    assert service_of(plugins[way], auth_section="copier").get(image_id).status == "queued"


def answers(service, image_id):
    try:
        return service.get(image_id).status == "queued"
    except exceptions.GlanceRefused:
        return False


def test_tokens_that_were_revoked_are_renewed_where_that_is_possible(
    keystone, plugins, service_of, image_id
):
    services = {way: service_of(plugins[way]) for way in WAYS}
    for service in services.values():
        # Glance trusts a token that it has seen for minutes.
        service.authenticate()
    keystone.revoke_tokens(USER)
    # Keystone takes tokens of the same second for revoked, too.
    wait_until(lambda: answers(services["password"], image_id), 60, "a new token is valid")
    renewed = [way for way in WAYS if answers(services[way], image_id)]
    assert renewed == [way for way in WAYS if "token" not in way]
    token = keystone.session(USER, PROJECT).get_token()
    for way in ("v3token", "token"):
        with pytest.raises(exceptions.GlanceRefused, match=r"401|validate token"):
            services[way].get(image_id)
        plugins[way]["token"] = token


# TLS


@pytest.fixture(scope="module")
def authority(workdir):
    return Authority(workdir("authority"))


@pytest.fixture(scope="module")
def front(keystone, workdir, authority):
    reason = TlsFront.available()
    if reason:
        pytest.skip(reason)
    with TlsFront(workdir("keystone-front"), keystone, authority.server()) as server:
        yield server


def answers_since(server, asked, method=None):
    """The status of each request after the first `asked`; logged after it was answered."""
    requests = server.requests()[asked:]
    return [request.status for request in requests if method in (None, request.method)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("trust", ["cafile", "insecure"])
def test_keystone_behind_tls(way, trust, front, authority, plugins, service_of, image_id):
    asked = len(front.requests())
    options = {**plugins[way], "auth_url": f"{front.url}v3"}
    session = {"cafile": authority.ca_file} if trust == "cafile" else {"insecure": "true"}
    assert service_of(options, **session).get(image_id).status == "queued"
    tokens = wait_until(lambda: answers_since(front, asked, "POST"), 60, "the log has the request")
    assert tokens == [201]


def test_keystone_with_a_certificate_that_is_not_trusted(
    front, tmp_path, plugins, service_of, image_id
):
    options = {**plugins["password"], "auth_url": f"{front.url}v3"}
    other = Authority(tmp_path / "other", "Other CA").ca_file
    for session in ({}, {"cafile": other}):
        with pytest.raises(exceptions.GlanceUnavailable, match="certificate is not accepted"):
            service_of(options, **session).get(image_id)


@pytest.fixture(scope="module")
def glance_front(cloud, workdir, authority, require):
    require(TlsFront)
    with TlsFront(workdir("glance-front"), cloud.glance, authority.server("glance")) as server:
        yield server


def test_glance_behind_tls(glance_front, authority, plugins, service_of, image_id):
    asked = len(glance_front.requests())
    session = {"endpoint_override": glance_front.url, "cafile": authority.ca_file}
    assert service_of(plugins["password"], **session).get(image_id).status == "queued"
    logged = wait_until(lambda: answers_since(glance_front, asked), 60, "the log has the request")
    assert logged == [200]


def test_glance_with_a_certificate_that_is_not_trusted(
    glance_front, tmp_path, plugins, service_of, image_id
):
    asked = len(glance_front.requests())
    other = Authority(tmp_path / "other", "Other CA").ca_file
    for session in ({}, {"cafile": other}):
        session["endpoint_override"] = glance_front.url
        with pytest.raises(exceptions.GlanceUnavailable, match="certificate is not accepted"):
            service_of(plugins["password"], **session).get(image_id)
    assert glance_front.requests()[asked:] == []


def test_an_upload_whose_writer_reaches_glance_through_tls(glance_front, cloud, authority):
    """Until its certificate is trusted no location is added; then that is made up for."""
    as_before = cloud.glance.options["replication"]
    asked = len(glance_front.requests())
    # With a certificate that is not trusted no upload is finished, however long it may take.
    more = {"endpoint_override": glance_front.url, "writer_grace_seconds": "0"}
    try:
        configure(cloud, {**as_before, **more})
        image_id = cloud.new_image(b"some bytes")
        wait_until(lambda: is_refused(cloud, image_id), 60, "the certificate is refused")
        assert cloud.replica_urls(image_id) == {}
        assert glance_front.requests()[asked:] == []
        configure(cloud, {**as_before, **more, "cafile": str(authority.ca_file)})
        cloud.wait_replicated(image_id)
        wait_until(
            lambda: 200 in answers_since(glance_front, asked, "PATCH"), 60, "a location was added"
        )
    finally:
        configure(cloud, as_before)
    cloud.wait_settled()


def is_refused(cloud, image_id):
    """Whether all replicas wait for a certificate that can be trusted."""
    errors = [row.error or "" for row in cloud.rows(image_id)]
    return errors and all("certificate is not accepted" in error for error in errors)


def configure(cloud, replication):
    """Let Glance and its writer begin anew with these options in their section."""
    cloud.glance.stop()
    wait_until(lambda: not cloud.writers(), 60, "the writer ends")
    cloud.glance.options["replication"] = replication
    cloud.glance.write_config()
    cloud.glance.start()
    cloud.wake()


# Endpoints


@pytest.fixture(scope="module")
def catalogue(keystone, cloud):
    """Glance is in the second region only, and there not at every interface."""
    keystone.add_service("image", NOBODY, REGIONS[0])
    keystone.add_endpoints(
        "image",
        {"public": NOBODY, "internal": cloud.glance.url, "admin": cloud.glance.url},
        REGIONS[1],
    )
    yield
    keystone.remove_service("image")


@pytest.mark.parametrize("way", ["password", "application credential by id", "v3token"])
@pytest.mark.parametrize("interface", ["valid_interfaces", "interface"])
def test_endpoint_of_region_and_interface(
    way, interface, catalogue, plugins, service_of, image_id
):
    options = plugins[way]
    found = service_of(options, region_name=REGIONS[1], **{interface: "internal"})
    assert found.get(image_id).status == "queued"
    for region, wrong in ((REGIONS[0], "internal"), (REGIONS[1], "public")):
        with pytest.raises(exceptions.GlanceUnavailable, match=NOBODY):
            service_of(options, region_name=region, **{interface: wrong}).get(image_id)


def test_endpoint_override_wins(catalogue, plugins, service_of, cloud, image_id):
    more = {"region_name": REGIONS[0], "endpoint_override": cloud.glance.url}
    assert service_of(plugins["password"], **more).get(image_id).status == "queued"


def test_region_that_the_catalogue_has_not(catalogue, plugins, service_of, image_id):
    with pytest.raises(exceptions.GlanceUnavailable, match="RegionThree"):
        service_of(plugins["password"], region_name="RegionThree").get(image_id)
